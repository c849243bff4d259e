"""Records of one region: as lines, as a table, as a pysam object."""

from gooseherd.client import GooseherdClient

with GooseherdClient() as client:
    # What has been prepared is read by byte ranges; what has not been is prepared first.
    for line in client.records("local", "genes.gff3", "chr1:1-10,000"):
        print(line)

    peaks = client.frame("local", "peaks.narrowPeak", "chr1:1-10,000")
    print(peaks[["chrom", "start", "end", "name", "signalValue"]].head())

    calls = client.frame("local", "calls.vcf", "chr1", kind="polars")
    print(calls.select("start", "ref", "alt", "NA1", "NA2").head())

    with client.open("local", "reads.sam") as reads:
        print(reads.count("chr1", 0, 10_000), "reads")
