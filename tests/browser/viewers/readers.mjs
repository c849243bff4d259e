// node readers.mjs: the libraries by which JBrowse and igv.js read files, asked by lines of JSON on standard input.
// {"kind": "tabix", "urls": {"data": "…", "index": "…"}, "regions": [["chr1", 0, 1000]]} is answered by
// {"found": [[record, …], …], "header": …}, a list for each region; a failure by {"error": "…"}.
import { createInterface } from 'node:readline'
import { BigWig } from '@gmod/bbi'
import BED from '@gmod/bed'
import { CraiIndex, IndexedCramFile } from '@gmod/cram'
import gff from '@gmod/gff'
import { BgzipIndexedFasta } from '@gmod/indexedfasta'
import { TabixIndexedFile } from '@gmod/tabix'
import trix from '@gmod/trix'
import { TwoBitFile } from '@gmod/twobit'
import vcf from '@gmod/vcf'
import { RemoteFile } from 'generic-filehandle'
import Straw from 'hic-straw/dist/hic-straw.esm.js'

// These are CommonJS.
const GFF = gff.default ?? gff
const VCF = vcf.default ?? vcf
const Trix = trix.default ?? trix

const open = url => new RemoteFile(url, { fetch: (address, init) => fetch(address, init) })

const eachRegion = async (regions, read) => {
  const found = []
  for (const region of regions) found.push(await read(...region))
  return found
}

// `parsed`: what the viewer makes of a line, beside the line itself.
const tabix = async ({ data, index }, regions, parsed = () => null) => {
  const reader = new TabixIndexedFile({ filehandle: open(data), tbiFilehandle: open(index) })
  const header = await reader.getHeader()
  const found = await eachRegion(regions, async (name, start, end) => {
    const records = []
    await reader.getLines(name, start, end, line => records.push([line, parsed(line)]))
    return records
  })
  return { found, header }
}

const sequences = async (reader, regions) => ({
  found: await eachRegion(regions, (...region) => reader.getSequence(...region)),
  header: await reader.getSequenceSizes(),
})

const KINDS = {
  tabix: (urls, regions) => tabix(urls, regions),
  bed(urls, regions) {
    const parser = new BED()
    return tabix(urls, regions, line => {
      const { chrom, chromStart, chromEnd } = parser.parseLine(line)
      return [chrom, chromStart, chromEnd]
    })
  },
  // Features of a region are parsed together: some are parts of others.
  async gff(urls, regions) {
    const { found } = await tabix(urls, regions)
    const parts = lines => [...lines, ...lines[0].child_features.flatMap(parts)]
    const features = found.map(records => GFF.parseStringSync(records.map(([line]) => `${line}\n`).join('')).flatMap(parts))
    const read = ({ seq_id: name, type, start, end, attributes: { ID, Variant_seq } }) =>
      [name, type, start, end, ID?.[0] ?? null, Variant_seq ?? null]
    return { found: features.map(lines => lines.map(read)), header: '' }
  },
  async vcf(urls, regions) {
    const { header } = await tabix(urls, [])
    const parser = new VCF({ header })
    return tabix(urls, regions, line => {
      const { CHROM, POS, REF, ALT, INFO } = parser.parseLine(line)
      return [CHROM, POS, REF, ALT, INFO.END?.[0] ?? null]
    })
  },
  // With the reference as a viewer has it, by the number of a sequence; `names` are those of the header.
  async cram({ data, index, fasta, fai, gzi }, regions, { names }) {
    const reference = new BgzipIndexedFasta({ fasta: open(fasta), fai: open(fai), gzi: open(gzi) })
    const reader = new IndexedCramFile({
      cramFilehandle: open(data),
      index: new CraiIndex({ filehandle: open(index) }),
      seqFetch: (number, start, end) => reference.getSequence(names[number], start - 1, end),
      checkSequenceMD5: true,
    })
    const found = await eachRegion(regions, async (name, start, end) => {
      const records = await reader.getRecordsForRange(names.indexOf(name), start + 1, end)
      return records.map(record => [record.readName, record.alignmentStart, record.getReadBases()])
    })
    return { found, header: '' }
  },
  async bigwig({ data }, regions) {
    const reader = new BigWig({ filehandle: open(data) })
    const { refsByNumber } = await reader.getHeader()
    const found = await eachRegion(regions, async (name, start, end) => {
      const features = await reader.getFeatures(name, start, end, { scale: 1 })
      return features.map(feature => [feature.start, feature.end, feature.score])
    })
    return { found, header: Object.fromEntries(Object.values(refsByNumber).map(({ name, length }) => [name, length])) }
  },
  fasta({ data, index, gzi }, regions) {
    const reader = new BgzipIndexedFasta({ fasta: open(data), fai: open(index), gzi: open(gzi) })
    return sequences(reader, regions)
  },
  // A name in place of each region; what JBrowse makes of an item of the index.
  async trix({ names, names_index: index }, regions) {
    const reader = new Trix(open(index), open(names), 1500)
    const found = await eachRegion(regions, async name => {
      const results = await reader.search(name)
      return results.map(([term, item]) => [term, JSON.parse(item.replaceAll('|', ',')).map(decodeURIComponent)])
    })
    return { found, header: '' }
  },
  twobit: ({ data }, regions) => sequences(new TwoBitFile({ filehandle: open(data) }), regions),
  async hic({ data }, regions, { resolution }) {
    const straw = new Straw({ url: data })
    const found = await eachRegion(regions, async (...places) => {
      const [one, other] = places.map(([chr, start, end]) => ({ chr, start, end }))
      const records = await straw.getContactRecords('NONE', one, other, 'BP', resolution)
      return records.map(({ bin1, bin2, counts }) => [bin1, bin2, counts])
    })
    const { chromosomes } = await straw.getMetaData()
    return { found, header: Object.fromEntries(chromosomes.map(({ name, size }) => [name, size])) }
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const { kind, urls, regions, ...options } = JSON.parse(line)
  let answer
  try {
    answer = await KINDS[kind](urls, regions, options)
  } catch (error) {
    answer = { error: `${error.stack ?? error}` }
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`)
}
