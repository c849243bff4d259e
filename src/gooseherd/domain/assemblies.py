"""Names that one sequence has in several places: UCSC's, Ensembl's, GenBank's and RefSeq's.

The assembled molecules of ten assemblies, as their reports at NCBI have them. Of a file that is of one of
these, a page can look up the names that another file or service uses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Final

from gooseherd.domain.contig import Contig

_TABLE: Final = """\
# hg38
chr1 248956422 1 CM000663.2 NC_000001.11
chr2 242193529 2 CM000664.2 NC_000002.12
chr3 198295559 3 CM000665.2 NC_000003.12
chr4 190214555 4 CM000666.2 NC_000004.12
chr5 181538259 5 CM000667.2 NC_000005.10
chr6 170805979 6 CM000668.2 NC_000006.12
chr7 159345973 7 CM000669.2 NC_000007.14
chr8 145138636 8 CM000670.2 NC_000008.11
chr9 138394717 9 CM000671.2 NC_000009.12
chr10 133797422 10 CM000672.2 NC_000010.11
chr11 135086622 11 CM000673.2 NC_000011.10
chr12 133275309 12 CM000674.2 NC_000012.12
chr13 114364328 13 CM000675.2 NC_000013.11
chr14 107043718 14 CM000676.2 NC_000014.9
chr15 101991189 15 CM000677.2 NC_000015.10
chr16 90338345 16 CM000678.2 NC_000016.10
chr17 83257441 17 CM000679.2 NC_000017.11
chr18 80373285 18 CM000680.2 NC_000018.10
chr19 58617616 19 CM000681.2 NC_000019.10
chr20 64444167 20 CM000682.2 NC_000020.11
chr21 46709983 21 CM000683.2 NC_000021.9
chr22 50818468 22 CM000684.2 NC_000022.11
chrX 156040895 X CM000685.2 NC_000023.11
chrY 57227415 Y CM000686.2 NC_000024.10
chrM 16569 MT J01415.2 NC_012920.1
chrEBV 171823 AJ507799.2 NC_007605.1
# hg19
chr1 249250621 1 CM000663.1 NC_000001.10
chr2 243199373 2 CM000664.1 NC_000002.11
chr3 198022430 3 CM000665.1 NC_000003.11
chr4 191154276 4 CM000666.1 NC_000004.11
chr5 180915260 5 CM000667.1 NC_000005.9
chr6 171115067 6 CM000668.1 NC_000006.11
chr7 159138663 7 CM000669.1 NC_000007.13
chr8 146364022 8 CM000670.1 NC_000008.10
chr9 141213431 9 CM000671.1 NC_000009.11
chr10 135534747 10 CM000672.1 NC_000010.10
chr11 135006516 11 CM000673.1 NC_000011.9
chr12 133851895 12 CM000674.1 NC_000012.11
chr13 115169878 13 CM000675.1 NC_000013.10
chr14 107349540 14 CM000676.1 NC_000014.8
chr15 102531392 15 CM000677.1 NC_000015.9
chr16 90354753 16 CM000678.1 NC_000016.9
chr17 81195210 17 CM000679.1 NC_000017.10
chr18 78077248 18 CM000680.1 NC_000018.9
chr19 59128983 19 CM000681.1 NC_000019.9
chr20 63025520 20 CM000682.1 NC_000020.10
chr21 48129895 21 CM000683.1 NC_000021.8
chr22 51304566 22 CM000684.1 NC_000022.10
chrX 155270560 X CM000685.1 NC_000023.10
chrY 59373566 Y CM000686.1 NC_000024.9
chrM 16571 NC_001807.4
# hs1
chr1 248387328 1 CP068277.2 NC_060925.1
chr2 242696752 2 CP068276.2 NC_060926.1
chr3 201105948 3 CP068275.2 NC_060927.1
chr4 193574945 4 CP068274.2 NC_060928.1
chr5 182045439 5 CP068273.2 NC_060929.1
chr6 172126628 6 CP068272.2 NC_060930.1
chr7 160567428 7 CP068271.2 NC_060931.1
chr8 146259331 8 CP068270.2 NC_060932.1
chr9 150617247 9 CP068269.2 NC_060933.1
chr10 134758134 10 CP068268.2 NC_060934.1
chr11 135127769 11 CP068267.2 NC_060935.1
chr12 133324548 12 CP068266.2 NC_060936.1
chr13 113566686 13 CP068265.2 NC_060937.1
chr14 101161492 14 CP068264.2 NC_060938.1
chr15 99753195 15 CP068263.2 NC_060939.1
chr16 96330374 16 CP068262.2 NC_060940.1
chr17 84276897 17 CP068261.2 NC_060941.1
chr18 80542538 18 CP068260.2 NC_060942.1
chr19 61707364 19 CP068259.2 NC_060943.1
chr20 66210255 20 CP068258.2 NC_060944.1
chr21 45090682 21 CP068257.2 NC_060945.1
chr22 51324926 22 CP068256.2 NC_060946.1
chrX 154259566 X CP068255.2 NC_060947.1
chrY 62460029 Y CP086569.2 NC_060948.1
chrM 16569 MT CP068254.1
# mm39
chr1 195154279 1 CM000994.3 NC_000067.7
chr2 181755017 2 CM000995.3 NC_000068.8
chr3 159745316 3 CM000996.3 NC_000069.7
chr4 156860686 4 CM000997.3 NC_000070.7
chr5 151758149 5 CM000998.3 NC_000071.7
chr6 149588044 6 CM000999.3 NC_000072.7
chr7 144995196 7 CM001000.3 NC_000073.7
chr8 130127694 8 CM001001.3 NC_000074.7
chr9 124359700 9 CM001002.3 NC_000075.7
chr10 130530862 10 CM001003.3 NC_000076.7
chr11 121973369 11 CM001004.3 NC_000077.7
chr12 120092757 12 CM001005.3 NC_000078.7
chr13 120883175 13 CM001006.3 NC_000079.7
chr14 125139656 14 CM001007.3 NC_000080.7
chr15 104073951 15 CM001008.3 NC_000081.7
chr16 98008968 16 CM001009.3 NC_000082.7
chr17 95294699 17 CM001010.3 NC_000083.7
chr18 90720763 18 CM001011.3 NC_000084.7
chr19 61420004 19 CM001012.3 NC_000085.7
chrX 169476592 X CM001013.3 NC_000086.8
chrY 91455967 Y CM001014.3 NC_000087.8
chrM 16299 MT AY172335.1 NC_005089.1
# mm10
chr1 195471971 1 CM000994.2 NC_000067.6
chr2 182113224 2 CM000995.2 NC_000068.7
chr3 160039680 3 CM000996.2 NC_000069.6
chr4 156508116 4 CM000997.2 NC_000070.6
chr5 151834684 5 CM000998.2 NC_000071.6
chr6 149736546 6 CM000999.2 NC_000072.6
chr7 145441459 7 CM001000.2 NC_000073.6
chr8 129401213 8 CM001001.2 NC_000074.6
chr9 124595110 9 CM001002.2 NC_000075.6
chr10 130694993 10 CM001003.2 NC_000076.6
chr11 122082543 11 CM001004.2 NC_000077.6
chr12 120129022 12 CM001005.2 NC_000078.6
chr13 120421639 13 CM001006.2 NC_000079.6
chr14 124902244 14 CM001007.2 NC_000080.6
chr15 104043685 15 CM001008.2 NC_000081.6
chr16 98207768 16 CM001009.2 NC_000082.6
chr17 94987271 17 CM001010.2 NC_000083.6
chr18 90702639 18 CM001011.2 NC_000084.6
chr19 61431566 19 CM001012.2 NC_000085.6
chrX 171031299 X CM001013.2 NC_000086.7
chrY 91744698 Y CM001014.2 NC_000087.7
chrM 16299 MT AY172335.1 NC_005089.1
# mm9
chr1 197195432 1 CM000994.1 NC_000067.5
chr2 181748087 2 CM000995.1 NC_000068.6
chr3 159599783 3 CM000996.1 NC_000069.5
chr4 155630120 4 CM000997.1 NC_000070.5
chr5 152537259 5 CM000998.1 NC_000071.5
chr6 149517037 6 CM000999.1 NC_000072.5
chr7 152524553 7 CM001000.1 NC_000073.5
chr8 131738871 8 CM001001.1 NC_000074.5
chr9 124076172 9 CM001002.1 NC_000075.5
chr10 129993255 10 CM001003.1 NC_000076.5
chr11 121843856 11 CM001004.1 NC_000077.5
chr12 121257530 12 CM001005.1 NC_000078.5
chr13 120284312 13 CM001006.1 NC_000079.5
chr14 125194864 14 CM001007.1 NC_000080.5
chr15 103494974 15 CM001008.1 NC_000081.5
chr16 98319150 16 CM001009.1 NC_000082.5
chr17 95272651 17 CM001010.1 NC_000083.5
chr18 90772031 18 CM001011.1 NC_000084.5
chr19 61342430 19 CM001012.1 NC_000085.5
chrX 166650296 X CM001013.1 NC_000086.6
chrY 15902555 Y CM001014.1 NC_000087.6
chrM 16299 MT AY172335.1 NC_005089.1
# dm6
chr2L 23513712 2L NT_033779.5 AE014134.6
chr2R 25286936 2R NT_033778.4 AE013599.5
chr3L 28110227 3L NT_037436.4 AE014296.5
chr3R 32079331 3R NT_033777.3 AE014297.3
chr4 1348131 4 NC_004353.4 AE014135.4
chrX 23542271 X NC_004354.4 AE014298.5
chrY 3667352 Y NC_024512.1 CP007106.1
chrM 19524 MT NC_024511.2 KJ947872.2
# ce11
chrI 15072434 NC_003279.8 I
chrII 15279421 NC_003280.10 II
chrIII 13783801 NC_003281.10 III
chrIV 17493829 NC_003282.8 IV
chrV 20924180 NC_003283.11 V
chrX 17718942 NC_003284.9 X
chrM 13794 NC_001328.1 MT MtDNA
# danRer11
chr1 59578282 1 CM002885.2 NC_007112.7
chr2 59640629 2 CM002886.2 NC_007113.7
chr3 62628489 3 CM002887.2 NC_007114.7
chr4 78093715 4 CM002888.2 NC_007115.7
chr5 72500376 5 CM002889.2 NC_007116.7
chr6 60270059 6 CM002890.2 NC_007117.7
chr7 74282399 7 CM002891.2 NC_007118.7
chr8 54304671 8 CM002892.2 NC_007119.7
chr9 56459846 9 CM002893.2 NC_007120.7
chr10 45420867 10 CM002894.2 NC_007121.7
chr11 45484837 11 CM002895.2 NC_007122.7
chr12 49182954 12 CM002896.2 NC_007123.7
chr13 52186027 13 CM002897.2 NC_007124.7
chr14 52660232 14 CM002898.2 NC_007125.7
chr15 48040578 15 CM002899.2 NC_007126.7
chr16 55266484 16 CM002900.2 NC_007127.7
chr17 53461100 17 CM002901.2 NC_007128.7
chr18 51023478 18 CM002902.2 NC_007129.7
chr19 48449771 19 CM002903.2 NC_007130.7
chr20 55201332 20 CM002904.2 NC_007131.7
chr21 45934066 21 CM002905.2 NC_007132.7
chr22 39133080 22 CM002906.2 NC_007133.7
chr23 46223584 23 CM002907.2 NC_007134.7
chr24 42172926 24 CM002908.2 NC_007135.7
chr25 37502051 25 CM002909.2 NC_007136.7
chrM 16596 MT AC024175.3 NC_002333.2
# sacCer3
chrI 230218 I BK006935.2 NC_001133.9
chrII 813184 II BK006936.2 NC_001134.8
chrIII 316620 III BK006937.2 NC_001135.5
chrIV 1531933 IV BK006938.2 NC_001136.10
chrV 576874 V BK006939.2 NC_001137.3
chrVI 270161 VI BK006940.2 NC_001138.5
chrVII 1090940 VII BK006941.2 NC_001139.9
chrVIII 562643 VIII BK006934.2 NC_001140.6
chrIX 439888 IX BK006942.2 NC_001141.2
chrX 745751 X BK006943.2 NC_001142.9
chrXI 666816 XI BK006944.2 NC_001143.9
chrXII 1078177 XII BK006945.2 NC_001144.5
chrXIII 924431 XIII BK006946.2 NC_001145.3
chrXIV 784333 XIV BK006947.3 NC_001146.8
chrXV 1091291 XV BK006948.2 NC_001147.6
chrXVI 948066 XVI BK006949.2 NC_001148.4
chrM 85779 MT Mito AJ011856.1 NC_001224.1
"""
"""An assembly begins with # and its name; a line has a name, the length in bases, and the other names."""


_OTHER_NAMES: Final[Mapping[str, str]] = {
    "grch38": "hg38",
    "grch37": "hg19",
    "b37": "hg19",
    "hs37d5": "hg19",
    "chm13": "hs1",
    "t2t-chm13": "hs1",
    "grcm39": "mm39",
    "grcm38": "mm10",
    "ncbim37": "mm9",
    "bdgp6": "dm6",
    "wbcel235": "ce11",
    "grcz11": "danrer11",
    "r64-1-1": "saccer3",
}
_PATCH: Final = re.compile(r"(?:\.p\d+|v\d+(?:\.\d+)*)$")
_NUMBERED: Final = re.compile(r"(?:chr)?\d{1,3}")
_CHROMOSOME: Final = re.compile(r"(?:chr)?(?:\d{1,2}[LR]?|[IVX]+|Y|MT?)")
"""What many assemblies call one of theirs; accessions belong to one."""
_REACHED: Final = 0.9
"""Of a chromosome's length: where the last of many records ends. Relatives have others."""
_MITOCHONDRIA: Final = frozenset({"chrM", "MT", "M"})
"""Files on one assembly have several of them, such as those of hg19."""


class _Assembly:
    """The molecules of one, found by any of their names."""

    def __init__(self, called: str) -> None:
        self.called = called
        self.molecules: list[Contig] = []
        self.names: dict[str, tuple[int, tuple[str, ...]]] = {}

    def has(self, contig: Contig, *, measured: bool) -> bool:
        """Whether a molecule has this name, and this length as far as it is known."""
        length, _ = self.names.get(contig.name, (-1, ()))
        if contig.length is None or length < 0:
            return length >= 0
        return contig.length <= length if measured else contig.length == length

    def contradicts(self, contig: Contig, *, measured: bool) -> bool:
        """Whether a file of this assembly cannot have that sequence."""
        if contig.name not in self.names:
            # Lengths that are measured fit many a genome with shorter chromosomes; these have other numbers.
            return measured and _NUMBERED.fullmatch(contig.name) is not None
        return contig.name not in _MITOCHONDRIA and not self.has(contig, measured=measured)


def aliases(contigs: Sequence[Contig], *, measured: bool = False) -> Mapping[str, tuple[str, ...]]:
    """The other names of each of these sequences that is known; those that are not known are left out.

    Which assembly it is follows from all names and lengths together. Where several fit as well, only names
    on which they agree are given: `chr1` without a length is `1` in all of them, and no accession. Lengths
    that are `measured` are ends of last records: the sequence has that many bases or more.
    """
    best = _fitting(contigs, measured=measured)
    sure = not measured or _is_reached(contigs, best)
    found = {}
    for contig in contigs:
        lists = [
            assembly.names[contig.name][1] for assembly in best if assembly.has(contig, measured=measured)
        ]
        if lists:
            agreed = [name for name in lists[0] if all(name in other for other in lists[1:])]
            if others := tuple(
                name for name in agreed if name != contig.name and (sure or _CHROMOSOME.fullmatch(name))
            ):
                found[contig.name] = others
    return found


def assembly_name(name: str) -> str:
    """One spelling for all names of an assembly that is known here; of others their own in lower case."""
    word = _PATCH.sub("", name.strip().lower())
    return _OTHER_NAMES.get(word, word)


def known_assemblies() -> frozenset[str]:
    """The assemblies of the table, as `assembly_name` spells them."""
    return frozenset(assembly_name(assembly.called) for assembly in _assemblies())


def fitting_assemblies(contigs: Sequence[Contig]) -> frozenset[str]:
    """Those of which these sequences are, by names and lengths together: none, one, or several alike."""
    return frozenset(assembly_name(assembly.called) for assembly in _fitting(contigs, measured=False))


def assembly_of(contigs: Sequence[Contig], *, measured: bool = False) -> str | None:
    """The assembly that these sequences are of, as UCSC calls it; None when none or several fit alike."""
    best = _fitting(contigs, measured=measured)
    sure = not measured or _is_reached(contigs, best)
    return best[0].called if len(best) == 1 and sure else None


def length_in(assembly: str | None, name: str) -> int | None:
    """How long the sequence is that has this name, in whatever spelling, in an assembly of the table."""
    wanted = assembly_name(assembly or "")
    for known in _assemblies():
        if assembly_name(known.called) == wanted and name in known.names:
            return known.names[name][0]
    return None


def sequences_of(assembly: str) -> Sequence[Contig] | None:
    """The assembled molecules by UCSC's names; None for an assembly that is not in the table."""
    wanted = assembly_name(assembly)
    return next((known.molecules for known in _assemblies() if assembly_name(known.called) == wanted), None)


def _fitting(contigs: Sequence[Contig], *, measured: bool) -> list[_Assembly]:
    """Those that have most of the sequences.

    One exact length is hardly chance, so a few others may differ. That a last record ends within a
    chromosome says little: one that ends behind it says that the file is of something else.
    """
    counted = []
    for known in _assemblies():
        count = sum(known.has(contig, measured=measured) for contig in contigs)
        against = sum(known.contradicts(contig, measured=measured) for contig in contigs)
        if count > against and not (measured and against):
            counted.append((count, known))
    most = max((count for count, _ in counted), default=0)
    return [known for count, known in counted if count == most]


@cache
def _assemblies() -> tuple[_Assembly, ...]:
    return tuple(_read(_TABLE))


def _is_reached(contigs: Sequence[Contig], fitting: Sequence[_Assembly]) -> bool:
    """Whether most of the last records are near the ends of sequences: only then lengths say something."""
    near = far = 0
    for contig in contigs:
        lengths = [known.names[contig.name][0] for known in fitting if contig.name in known.names]
        if lengths and contig.length is not None:
            reached = contig.length >= _REACHED * max(lengths)
            near, far = near + reached, far + (not reached)
    return near > far


def _read(table: str) -> Iterator[_Assembly]:
    for block in table.split("# ")[1:]:
        called, *lines = block.splitlines()
        assembly = _Assembly(called)
        for line in lines:
            first, length, *others = line.split()
            names = (first, *others)
            assembly.molecules.append(Contig(first, int(length)))
            assembly.names.update(dict.fromkeys(names, (int(length), names)))
        yield assembly
