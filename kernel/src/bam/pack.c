/*
 * See pack.h. A read is handed on as its bytes are: nothing of it is taken apart but what the index needs.
 *
 * Where a read ends, as an index says it, is where the next one begins. That is known only when the next one is there: it
 * may begin a block. So each read is given to the index one late, which makes the index the same whoever compresses,
 * and the one that is made by reading the file.
 */
#define _GNU_SOURCE
#define HTS_ALLOW_UNALIGNED 0 /* as it would read numbers else is not C */
#include "bam/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <htslib/bgzf.h>
#include <htslib/hts_endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bam/bamindex.h"
#include "bgzf/blockwriter.h"
#include "failure.h"

enum { FIXED = 32, FIRST_ROOM = 64 << 10 }; /* bytes of a read before its name (SAMv1 4.2) */
enum { BLOCKS_MEMORY = 16 << 20 };

struct placed {
    int tid;
    hts_pos_t from, to;
    bool mapped;
};

struct packing {
    const struct pack *pack;
    int fd;
    BGZF *in;
    struct blockwriter *out;
    sam_hdr_t *header;
    hts_idx_t *index;
    struct density *density;
    bool csi, any;
    uint8_t *read; /* the one at hand: its length, then so many bytes */
    size_t room;
};

/* What a failure may remove: never a file that was there for something else, such as a device. */
static bool made_data, made_index;
static char index_path[4096];

static _Noreturn void malformed(void)
{
    fail(EXIT_INVALID, TOOL_FAILED, "what came is not a sorted BAM");
}

static _Noreturn void cut(void)
{
    fail(EXIT_TRUNCATED, TOOL_FAILED, "the BAM that came ends too early");
}

/* Exactly that many bytes; false: not one of them, for this is the end. */
static bool take(struct packing *p, void *into, size_t n)
{
    errno = 0;
    ssize_t got = bgzf_read(p->in, into, n);
    if (got == (ssize_t)n)
        return true;
    if (got == 0)
        return false;
    if (got < 0)
        fail_library("what came could not be read");
    cut();
}

/* The next read, into `read`; its size with its length's, 0 at the end. Memory grows only as bytes come. */
static size_t next(struct packing *p)
{
    if (!take(p, p->read, 4))
        return 0;
    uint32_t length = le_to_u32(p->read);
    if (length < FIXED || length > INT32_MAX)
        malformed();
    size_t all = (size_t)length + 4;
    for (size_t have = 4; have < all;) {
        if (have == p->room)
            p->read = xrealloc(p->read, p->room *= 2);
        size_t most = (all < p->room ? all : p->room) - have;
        if (!take(p, p->read + have, most))
            cut();
        have += most;
    }
    return all;
}

/* Where it lies, as bam_endpos counts. A CIGAR too long for its field stands there as one of the same width. */
static struct placed place_of(const struct packing *p, size_t n)
{
    const uint8_t *core = p->read + 4, *cigar = core + FIXED + core[8];
    unsigned operations = le_to_u16(core + 12), flag = le_to_u16(core + 14);
    struct placed placed = {le_to_i32(core), le_to_i32(core + 4), 0, !(flag & BAM_FUNMAP)};
    if (placed.tid < -1 || placed.tid >= sam_hdr_nref(p->header) || placed.from < -1 ||
        FIXED + core[8] + 4 * (size_t)operations > n - 4)
        malformed();
    hts_pos_t width = 0;
    for (unsigned i = 0; placed.mapped && i < operations; i++) {
        uint32_t operation = le_to_u32(cigar + 4 * (size_t)i);
        if (bam_cigar_type(bam_cigar_op(operation)) & 2)
            width += bam_cigar_oplen(operation);
    }
    placed.to = placed.from + (width ? width : 1);
    return placed;
}

static void refuse_disorder(const struct placed *before, const struct placed *now)
{
    /* Reads without a place, -1, come last, in any order. */
    if ((uint32_t)now->tid < (uint32_t)before->tid ||
        (now->tid == before->tid && now->tid >= 0 && now->from < before->from))
        malformed();
}

static bool indexed(void *of, const struct index_entry *read, uint64_t end)
{
    const struct packing *p = of;
    return hts_idx_push(p->index, (int)read->place, read->from, read->to, end, read->mapped) >= 0;
}

static void all_reads(struct packing *p)
{
    struct placed before = {0}, now;
    struct index_entry mark = {0};
    for (size_t n; (n = next(p)) != 0; before = now) {
        now = place_of(p, n);
        blockwriter_keep_together(p->out, n);
        if (p->any) {
            refuse_disorder(&before, &now);
            blockwriter_record(p->out, mark);
        }
        blockwriter_text(p->out, (const char *)p->read, n);
        mark = (struct index_entry){.from = now.from, .to = now.to, .place = (uint32_t)now.tid, .mapped = now.mapped};
        p->any = true;
        if (now.mapped && now.tid >= 0)
            density_add(p->density, (uint32_t)now.tid, now.from, now.to);
    }
    if (p->in->no_eof_block)
        cut();
    uint64_t end = blockwriter_flush(p->out);
    errno = 0;
    if ((p->any && !indexed(p, &mark, end)) || hts_idx_finish(p->index, end) < 0)
        fail_library("the index could not be finished");
}

static void put_number(struct packing *p, uint32_t value)
{
    uint8_t little[4];
    u32_to_le(value, little);
    blockwriter_text(p->out, (const char *)little, sizeof little);
}

/* As it came (SAMv1 4.2). */
static void put_header(struct packing *p)
{
    const sam_hdr_t *h = p->header;
    blockwriter_text(p->out, "BAM\1", 4);
    put_number(p, (uint32_t)h->l_text);
    blockwriter_text(p->out, h->text, h->l_text);
    put_number(p, (uint32_t)h->n_targets);
    for (int i = 0; i < h->n_targets; i++) {
        size_t n = strlen(h->target_name[i]) + 1;
        put_number(p, (uint32_t)n);
        blockwriter_text(p->out, h->target_name[i], n);
        put_number(p, h->target_len[i]);
    }
}

static void begin(struct packing *p, int source)
{
    errno = 0;
    p->in = bgzf_dopen(source, "r");
    if (!p->in)
        fail_library("what came could not be read");
    if (!p->in->is_compressed || p->in->is_gzip)
        malformed();
    p->header = bam_hdr_read(p->in);
    if (!p->header)
        fail_library("the header that came could not be read");
    p->out = blockwriter_start(p->fd, p->pack->level, p->pack->threads, BLOCKS_MEMORY, indexed, p);
    put_header(p);
    uint64_t from = blockwriter_flush(p->out);
    p->csi = bam_longest(p->header) > BAI_END;
    p->index = bam_index_start(p->header, p->csi, from);
    if (!p->index)
        fail_memory("the index");
    p->density = p->pack->density ? density_start() : NULL;
}

static void save_index(struct packing *p)
{
    struct stat found;
    snprintf(index_path, sizeof index_path, "%s.%s", p->pack->out, p->csi ? "csi" : "bai");
    made_index = stat(index_path, &found) != 0 || S_ISREG(found.st_mode);
    errno = 0;
    if (hts_idx_save_as(p->index, NULL, index_path, p->csi ? HTS_FMT_CSI : HTS_FMT_BAI) < 0)
        fail_library_io("writing the index");
}

static struct packing packing = {.fd = -1};

void pack_run(const struct pack *pack, int source)
{
    struct packing *p = &packing;
    struct stat found;
    *p = (struct packing){.pack = pack, .room = FIRST_ROOM};
    p->read = xrealloc(NULL, p->room);
    p->fd = open(pack->out, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (p->fd < 0)
        fail_io("creating the output");
    made_data = fstat(p->fd, &found) == 0 && S_ISREG(found.st_mode);
    begin(p, source);
    all_reads(p);
    struct blockwriter *out = p->out;
    p->out = NULL;
    blockwriter_end(out);
    save_index(p);
    density_finish(p->density, pack->density, bam_place, p->header);
    p->density = NULL;
    pack_forget();
}

void pack_forget(void)
{
    struct packing *p = &packing;
    if (p->out)
        blockwriter_drop(p->out);
    density_drop(p->density);
    if (p->index)
        hts_idx_destroy(p->index);
    if (p->header)
        sam_hdr_destroy(p->header);
    if (p->in)
        bgzf_close(p->in);
    if (p->fd >= 0)
        close(p->fd);
    free(p->read);
    *p = (struct packing){.fd = -1};
}

void pack_remove(const struct pack *pack)
{
    if (made_data)
        unlink(pack->out);
    if (made_index)
        unlink(index_path);
}

static struct pack asked;

static void on_failure(const struct failure *failure)
{
    dprintf(STDERR_FILENO, "gooseherd-intervals: %s\n", failure->detail);
    pack_remove(&asked);
}

static bool understood(struct pack *pack, int argc, char **argv)
{
    static const struct option names[] = {
        {"out", required_argument, NULL, 'o'},
        {"density", required_argument, NULL, 'd'},
        {"threads", required_argument, NULL, '@'},
        {"level", required_argument, NULL, 'l'},
        {NULL, 0, NULL, 0},
    };
    *pack = (struct pack){.threads = 2, .level = 1};
    for (int option; (option = getopt_long(argc, argv, "l:", names, NULL)) != -1;)
        switch (option) {
        case 'o': pack->out = optarg; break;
        case 'd': pack->density = optarg; break;
        case '@': pack->threads = atoi(optarg); break;
        case 'l': pack->level = atoi(optarg); break;
        default: return false;
        }
    /* htslib opens URLs and more when a name looks like one; a name that starts with a slash is a file. */
    return optind == argc && pack->out && pack->out[0] == '/' && strlen(pack->out) < sizeof index_path - 8 &&
           pack->threads >= 1 && pack->threads <= BLOCKWRITER_THREADS_MOST && pack->level >= 0 && pack->level <= 9;
}

int pack_main(int argc, char **argv)
{
    if (!understood(&asked, argc, argv)) {
        fputs("gooseherd-intervals pack: --out is an absolute path, threads 1 to 64 (see --help)\n", stderr);
        return EXIT_USAGE;
    }
    failure_handler = on_failure;
    pack_run(&asked, STDIN_FILENO);
    return EXIT_DONE;
}
