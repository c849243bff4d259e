/* See reads.h. */
#define _GNU_SOURCE
#include "bam/reads.h"

#include <errno.h>
#include <getopt.h>
#include <htslib/bgzf.h>
#include <htslib/sam.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bam/bamindex.h"
#include "density.h"
#include "failure.h"

enum { REFUSED = 1, WRONG_USAGE = 2 };

struct call {
    const char *bam, *index, *density;
    bool csi;
    int threads;
};

static int say(const char *what, bool with_errno)
{
    fprintf(stderr, "gooseherd-intervals: %s%s%s\n", what, with_errno && errno ? ": " : "",
            with_errno && errno ? strerror(errno) : "");
    return REFUSED;
}

/* All reads; the status. htslib says why no index can hold one. */
static int count(htsFile *file, sam_hdr_t *header, hts_idx_t *index, struct density *density)
{
    enum { AT_END = -1 }; /* of sam_read1 */
    bam1_t *read = bam_init1();
    if (!read)
        return say("out of memory", false);
    int got;
    bool good = true;
    uint64_t reads = 0;
    for (; good && (got = sam_read1(file, header, read)) >= 0; reads++) {
        bool mapped = !(read->core.flag & BAM_FUNMAP);
        hts_pos_t end = index || mapped ? bam_endpos(read) : 0;
        if (index &&
            hts_idx_push(index, read->core.tid, read->core.pos, end, (uint64_t)bgzf_tell(file->fp.bgzf), mapped) < 0)
            good = false;
        else if (mapped && read->core.tid >= 0)
            density_add(density, (uint32_t)read->core.tid, read->core.pos, end);
    }
    bam_destroy1(read);
    if (!good)
        return say("the BAM is not sorted", false);
    if (got == AT_END)
        return EXIT_SUCCESS;
    if (memory_is_short())
        return say("out of memory", false);
    fprintf(stderr, "gooseherd-intervals: corrupt: what follows the first %llu reads is no read\n",
            (unsigned long long)reads);
    return REFUSED;
}

static int work(const struct call *call, htsFile *file, sam_hdr_t *header)
{
    hts_idx_t *index = call->index ? bam_index_start(header, call->csi, (uint64_t)bgzf_tell(file->fp.bgzf)) : NULL;
    struct density *density = call->density ? density_start() : NULL;
    int status = EXIT_SUCCESS;
    errno = 0;
    if (call->index && !index)
        status = say("out of memory", false);
    else if ((status = count(file, header, index, density)) != EXIT_SUCCESS)
        ;
    else if (index && (hts_idx_finish(index, (uint64_t)bgzf_tell(file->fp.bgzf)) < 0 ||
                       hts_idx_save_as(index, NULL, call->index, call->csi ? HTS_FMT_CSI : HTS_FMT_BAI) < 0))
        status = say("writing the index", true);
    if (status == EXIT_SUCCESS)
        density_finish(density, call->density, bam_place, header);
    else
        density_drop(density);
    if (index)
        hts_idx_destroy(index);
    return status;
}

static bool understood(struct call *call, int argc, char **argv)
{
    static const struct option names[] = {
        {"index", required_argument, NULL, 'i'},
        {"density", required_argument, NULL, 'd'},
        {"csi", no_argument, NULL, 'c'},
        {"threads", required_argument, NULL, '@'},
        {NULL, 0, NULL, 0},
    };
    *call = (struct call){.threads = 1};
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;)
        switch (option) {
        case 'i': call->index = optarg; break;
        case 'd': call->density = optarg; break;
        case 'c': call->csi = true; break;
        case '@': call->threads = atoi(optarg); break;
        default: return false;
        }
    if (optind != argc - 1)
        return false;
    call->bam = argv[optind];
    /* htslib opens URLs and more when a name looks like one; a name that starts with a slash is a file. */
    return call->bam[0] == '/' && (!call->index || call->index[0] == '/') && call->threads >= 1 && call->threads <= 64;
}

int reads_main(int argc, char **argv)
{
    struct call call;
    if (!understood(&call, argc, argv)) {
        fputs("gooseherd-intervals reads: paths are absolute, threads 1 to 64 (see --help)\n", stderr);
        return WRONG_USAGE;
    }
    htsFile *file = hts_open(call.bam, "rb");
    if (!file)
        return say("opening the BAM", true);
    int status;
    sam_hdr_t *header = NULL;
    if (hts_get_format(file)->format != bam || hts_get_format(file)->compression != bgzf)
        status = say("this is no BAM in BGZF", false);
    else if ((call.threads > 1 && hts_set_threads(file, call.threads) < 0) || !(header = sam_hdr_read(file)))
        status = say("reading the header", false);
    else
        status = work(&call, file, header);
    sam_hdr_destroy(header);
    hts_close(file);
    return status;
}
