/* See options.h. */
#define _GNU_SOURCE
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "source_limits.h"

#ifndef VERSION
#define VERSION "unknown"
#endif

static const char usage[] =
    "usage: gooseherd-intervals --format FORMAT --out OUT --index INDEX [OPTIONS] SOURCE\n"
    "\n"
    "Normalises, sorts, block-compresses and indexes one file of positions on a genome.\n"
    "SOURCE is a path, or - for standard input; plain text, gzip, BGZF or Zstandard. OUT, INDEX and REPORT are paths or\n"
    "fd:N.\n"
    "\n"
    "  --format F         bed narrowpeak broadpeak gappedpeak tagalign interact gff gff3 gtf (which becomes GFF3) vcf\n"
    "  --out OUT          the records, BGZF\n"
    "  --index INDEX      TBI, or CSI when an end lies beyond 2^29 (the report says which)\n"
    "  --density FILE     how many records lie where, as a table (density.h); a kept source's too. None, when it fails\n"
    "  --report REPORT    what was found, changed or refused, as JSON\n"
    "  --work DIR         for spilled runs (default: TMPDIR, or /tmp)\n"
    "  --memory BYTES     for everything (default 1 GiB, at least 16 MiB)\n"
    "  --threads N        for compression, beside reading (default 2)\n"
    "  -l, --level N      of compression: 1 to 9 as bgzip has them (default 1), or 0, twice as fast as 1\n"
    "  --progress-fd N    a line of JSON four times a second\n"
    "  --keep             a BGZF source in order, in which nothing would be changed, is only indexed: OUT is not\n"
    "                     written then, and the report says so; from a pipe, any other is refused (13, 14)\n"
    "  --refuse-empty     a source without records and without a header is invalid\n"
    "  --skip-bad-lines   a few lines that make no record are left out, and the report names them\n"
    "  --contigs FILE     sequences that count as declared: a name and a length by TAB on each line\n"
    "\n"
    "gooseherd-intervals reads [--index INDEX [--csi]] [--density FILE] [--threads N] BAM\n"
    "  indexes a sorted BAM as samtools index does, or only counts its reads; status 1 when it cannot\n"
    "gooseherd-intervals pack --out OUT [--density FILE] [--threads N] [-l N]\n"
    "  compresses and indexes (OUT.bai, or OUT.csi) the BAM that `samtools sort -u` gives to its standard input\n"
    "\n"
    "status: 0 done, 2 usage, 10 source invalid, 11 source truncated, 12 limit exceeded, 13 not to be kept,\n"
    "14 only to be kept with a CSI, 20 I/O or disk full, 21 out of memory\n";

enum {
    FORMAT = 256,
    OUT,
    INDEX,
    DENSITY,
    REPORT,
    WORK,
    MEMORY,
    THREADS,
    PROGRESS,
    KEEP,
    REFUSE_EMPTY,
    SKIP_BAD_LINES,
    CONTIGS,
    HELP,
    SHOW_VERSION,
};

static const struct option names[] = {
    {"format", required_argument, NULL, FORMAT},
    {"out", required_argument, NULL, OUT},
    {"index", required_argument, NULL, INDEX},
    {"density", required_argument, NULL, DENSITY},
    {"report", required_argument, NULL, REPORT},
    {"work", required_argument, NULL, WORK},
    {"memory", required_argument, NULL, MEMORY},
    {"threads", required_argument, NULL, THREADS},
    {"level", required_argument, NULL, 'l'},
    {"progress-fd", required_argument, NULL, PROGRESS},
    {"keep", no_argument, NULL, KEEP},
    {"refuse-empty", no_argument, NULL, REFUSE_EMPTY},
    {"skip-bad-lines", no_argument, NULL, SKIP_BAD_LINES},
    {"contigs", required_argument, NULL, CONTIGS},
    {"help", no_argument, NULL, HELP},
    {"version", no_argument, NULL, SHOW_VERSION},
    {NULL, 0, NULL, 0},
};

static _Noreturn void wrong(const char *what, const char *given)
{
    fprintf(stderr, "gooseherd-intervals: %s%s%s (see --help)\n", what, given ? ": " : "", given ? given : "");
    exit(EXIT_USAGE);
}

static uint64_t whole(const char *text, uint64_t least, uint64_t most)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno || end == text || *end || text[0] == '-' || value < least || value > most)
        wrong("not a number in range", text);
    return value;
}

void options_read(struct options *o, int argc, char **argv)
{
    const char *temporary = getenv("TMPDIR");
    *o = (struct options){
        .work = temporary && *temporary ? temporary : "/tmp",
        .memory = 1024 * MIB,
        .progress_fd = -1,
        .output = {.level = 1, .threads = 2},
    };
    for (int option; (option = getopt_long(argc, argv, "l:", names, NULL)) != -1;)
        switch (option) {
        case FORMAT:
            if (!(o->output.format = format_named(optarg)))
                wrong("no such format", optarg);
            break;
        case OUT: o->output.data = optarg; break;
        case INDEX: o->output.index = optarg; break;
        case DENSITY: o->output.density = optarg; break;
        case REPORT: o->report = optarg; break;
        case WORK: o->work = optarg; break;
        case MEMORY: o->memory = whole(optarg, 16 * MIB, (uint64_t)1 << 44); break;
        case THREADS: o->output.threads = (int)whole(optarg, 1, BLOCKWRITER_THREADS_MOST); break;
        case 'l': o->output.level = (int)whole(optarg, 0, 9); break;
        case PROGRESS: o->progress_fd = (int)whole(optarg, 0, 1 << 20); break;
        case KEEP: o->keep = true; break;
        case CONTIGS: o->contigs = optarg; break;
        case REFUSE_EMPTY: o->refuse_empty = true; break;
        case SKIP_BAD_LINES: o->skip_bad_lines = true; break;
        case HELP: fputs(usage, stdout); exit(EXIT_DONE);
        case SHOW_VERSION: puts("gooseherd-intervals " VERSION); exit(EXIT_DONE);
        default: exit(EXIT_USAGE);
        }
    o->output.memory = o->memory / 16;
    if (optind != argc - 1)
        wrong("give one source", NULL);
    o->source = argv[optind];
    if (!o->output.format || !o->output.data || !o->output.index)
        wrong("--format, --out and --index are needed", NULL);
}
