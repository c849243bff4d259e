/* See output.h. The index is filled as the blocks are written, so no second pass reads the file. */
#define _GNU_SOURCE
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <htslib/tbx.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bgzf/blockwriter.h"
#include "density.h"
#include "failure.h"
#include "index_file.h"

/* tabix's own choice for CSI: 16 kb windows, and levels enough for 2^32. */
enum { MIN_SHIFT = 14, TBI_LEVELS = 5, CSI_LEVELS = 6 };

struct output {
    const struct output_plan *plan;
    struct blockwriter *writer; /* NULL: the data stays as it is */
    hts_idx_t *index;
    struct density *density;
    struct index_entry last; /* goes to the index when its end is sure: the last of all ends where the text does */
    uint64_t last_end;
    bool any;
    int fd; /* the data file */
    bool csi;
};

/* What a failure may remove: never a file that was there for something else, such as a device. */
static bool made_data, made_index;

static int number_of(const char *target)
{
    return strncmp(target, "fd:", 3) == 0 ? atoi(target + 3) : -1;
}

bool output_can_be_read_back(const struct output_plan *plan)
{
    struct stat found;
    return number_of(plan->data) < 0 && (stat(plan->data, &found) != 0 || S_ISREG(found.st_mode));
}

static bool index_last(struct output *o, uint64_t end)
{
    return !o->any || hts_idx_push(o->index, (int)o->last.place, o->last.from, o->last.to, end, 1) >= 0;
}

static bool indexed(void *of, const struct index_entry *mark, uint64_t end)
{
    struct output *o = of;
    if (!index_last(o, o->last_end))
        return false;
    o->last = *mark;
    o->last_end = end;
    o->any = true;
    density_add(o->density, mark->place, mark->from, mark->ends_elsewhere ? mark->from + 1 : mark->to);
    return true;
}

static void begin(struct output *o, const struct text *header)
{
    o->writer = blockwriter_start(o->fd, o->plan->level, o->plan->threads, o->plan->memory, indexed, o);
    blockwriter_text(o->writer, header->bytes, header->n);
    /* The index needs to know where the first record's block begins. */
    o->index = hts_idx_init(0, o->csi ? HTS_FMT_CSI : HTS_FMT_TBI, blockwriter_flush(o->writer), MIN_SHIFT,
                            o->csi ? CSI_LEVELS : TBI_LEVELS);
    if (!o->index)
        fail(EXIT_MEMORY, OUT_OF_MEMORY, "ran out of memory for the index");
    o->density = o->plan->density ? density_start() : NULL;
}

struct output *output_start(const struct output_plan *plan, bool csi, const struct text *header)
{
    struct output *o = xrealloc(NULL, sizeof *o);
    memset(o, 0, sizeof *o);
    o->plan = plan;
    o->csi = csi;
    o->fd = number_of(plan->data);
    if (o->fd < 0)
        o->fd = open(plan->data, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (o->fd < 0)
        fail_io("creating the output");
    struct stat found;
    made_data = number_of(plan->data) < 0 && fstat(o->fd, &found) == 0 && S_ISREG(found.st_mode);
    begin(o, header);
    return o;
}

void output_text(struct output *o, const char *text, size_t n)
{
    blockwriter_text(o->writer, text, n);
}

void output_record(struct output *o, uint32_t place, uint32_t start, uint32_t end, bool ends_elsewhere)
{
    int64_t from, to;
    format_interval(o->plan->format, start, end, &from, &to);
    blockwriter_record(o->writer, (struct index_entry){
                                      .from = from,
                                      .to = to,
                                      .place = place,
                                      .mapped = true,
                                      .ends_elsewhere = ends_elsewhere,
                                  });
}

uint64_t output_bytes(const struct output *o)
{
    struct stat found;
    return fstat(o->fd, &found) == 0 && S_ISREG(found.st_mode) ? (uint64_t)found.st_size : 0;
}

/* tabix's description of the columns, then the sequence names in the order of the index. */
static void describe(struct output *o, const struct contigs *contigs, const uint32_t *order)
{
    const tbx_conf_t *conf = o->plan->format->tabix;
    uint32_t names = 0;
    for (uint32_t i = 0; i < contigs->seen_count; i++)
        names += contigs->all[order[i]].n + 1;
    uint32_t fields[7] = {(uint32_t)conf->preset,
                          (uint32_t)conf->sc,
                          (uint32_t)conf->bc,
                          (uint32_t)conf->ec,
                          (uint32_t)conf->meta_char,
                          (uint32_t)conf->line_skip,
                          names};
    struct text meta = {0};
    for (int i = 0; i < 7; i++) {
        unsigned char little[4] = {(unsigned char)fields[i], (unsigned char)(fields[i] >> 8),
                                   (unsigned char)(fields[i] >> 16), (unsigned char)(fields[i] >> 24)};
        text_add(&meta, little, sizeof little);
    }
    for (uint32_t i = 0; i < contigs->seen_count; i++) {
        text_add(&meta, contigs->all[order[i]].name, contigs->all[order[i]].n);
        text_add(&meta, "", 1);
    }
    if (hts_idx_set_meta(o->index, (uint32_t)meta.n, (uint8_t *)meta.bytes, 1) < 0)
        fail(EXIT_MEMORY, OUT_OF_MEMORY, "ran out of memory for the index");
    free(meta.bytes);
}

/* htslib opens URLs and more when a name looks like one; a name that starts with a slash or ./ is a file. */
static void save_index(const struct output *o)
{
    const char *target = o->plan->index;
    size_t room = strlen(target) + 32;
    char *path = xrealloc(NULL, room);
    if (number_of(target) >= 0)
        snprintf(path, room, "/proc/self/fd/%d", number_of(target));
    else
        snprintf(path, room, "%s%s", target[0] == '/' ? "" : "./", target);
    struct stat found;
    made_index = number_of(target) < 0 && (stat(path, &found) != 0 || S_ISREG(found.st_mode));
    if (o->plan->level == 0 && !o->csi)
        index_file_save_quickly(o->index, path, o->plan->threads);
    else
        index_file_save(o->index, path, o->csi);
    free(path);
}

struct ordered {
    const struct contigs *contigs;
    const uint32_t *order;
};

static struct density_place named(const void *of, uint32_t place)
{
    const struct ordered *ordered = of;
    const struct contig *contig = &ordered->contigs->all[ordered->order[place]];
    return (struct density_place){contig->name, contig->n, contig->has_length ? contig->length : 0};
}

static void save_density(struct output *o, const struct contigs *contigs, const uint32_t *order)
{
    density_finish(o->density, o->plan->density, named, &(struct ordered){contigs, order});
    o->density = NULL;
}

struct output *output_start_index_only(const struct output_plan *plan, bool csi, uint64_t from)
{
    struct output *o = xrealloc(NULL, sizeof *o);
    memset(o, 0, sizeof *o);
    o->plan = plan;
    o->csi = csi;
    o->fd = -1;
    o->index = hts_idx_init(0, csi ? HTS_FMT_CSI : HTS_FMT_TBI, from, MIN_SHIFT, csi ? CSI_LEVELS : TBI_LEVELS);
    if (!o->index)
        fail(EXIT_MEMORY, OUT_OF_MEMORY, "ran out of memory for the index");
    o->density = plan->density ? density_start() : NULL;
    return o;
}

void output_index_record(struct output *o, uint32_t place, uint32_t start, uint32_t end, bool ends_elsewhere,
                         uint64_t to)
{
    int64_t from, until;
    format_interval(o->plan->format, start, end, &from, &until);
    errno = 0;
    if (hts_idx_push(o->index, (int)place, from, until, to, 1) < 0)
        fail_library("the index refused a record");
    density_add(o->density, place, from, ends_elsewhere ? from + 1 : until);
}

void output_finish_index_only(struct output *o, const struct contigs *contigs, const uint32_t *order, uint64_t end)
{
    errno = 0;
    if (hts_idx_finish(o->index, end) < 0)
        fail_library("the index could not be finished");
    describe(o, contigs, order);
    save_index(o);
    save_density(o, contigs, order);
    output_drop(o);
}

/* The data file stays open. */
static void forget(struct output *o)
{
    if (o->writer)
        blockwriter_drop(o->writer);
    if (o->index)
        hts_idx_destroy(o->index);
    density_drop(o->density);
    free(o);
}

void output_drop(struct output *o)
{
    if (o->writer && number_of(o->plan->data) < 0)
        close(o->fd);
    forget(o);
}

uint64_t output_finish(struct output *o, const struct contigs *contigs, const uint32_t *order)
{
    uint64_t end = blockwriter_flush(o->writer);
    errno = 0;
    if (!index_last(o, end) || hts_idx_finish(o->index, end) < 0)
        fail_library("the index could not be finished");
    describe(o, contigs, order);
    blockwriter_end(o->writer);
    o->writer = NULL;
    uint64_t bytes = output_bytes(o);
    save_index(o);
    save_density(o, contigs, order);
    if (number_of(o->plan->data) < 0)
        close(o->fd);
    forget(o);
    return bytes;
}

int output_read_back(struct output *o)
{
    int fd = o->fd;
    blockwriter_end(o->writer);
    o->writer = NULL;
    if (unlink(o->plan->data) != 0 || lseek(fd, 0, SEEK_SET) != 0)
        fail_io("reading the output back");
    forget(o);
    return fd;
}

void output_remove(const struct output_plan *plan)
{
    if (made_data)
        unlink(plan->data);
    if (made_index)
        unlink(plan->index);
}
