/* Block-compressed text with its index, made in one pass. */
#ifndef OUTPUT_H
#define OUTPUT_H

#include "bgzf/blockwriter.h"
#include "formats/contigs.h"
#include "formats/format.h"

#define TBI_END ((int64_t)1 << 29) /* a TBI index holds ends up to here (tabix's format, SAMv1 5.2) */

struct output;

struct output_plan {
    const char *data;    /* a path, or "fd:N" */
    const char *index;   /* a path, or "fd:N" */
    const char *density; /* a path, or NULL: how the records lie is not told (density.h) */
    int level, threads;
    uint64_t memory; /* for blocks under way */
    const struct format *format;
};

/* Whether what was written can be read back: an ordinary file given by its path. */
bool output_can_be_read_back(const struct output_plan *plan);

/* Starts with the header. `csi`: ends lie beyond TBI_END. Failures end the process. */
struct output *output_start(const struct output_plan *plan, bool csi, const struct text *header);

/* The record's interval, when all of its text has been given; `place` never goes down. */
void output_text(struct output *output, const char *text, size_t n);
void output_record(struct output *output, uint32_t place, uint32_t start, uint32_t end, bool ends_elsewhere);

uint64_t output_bytes(const struct output *output); /* compressed bytes that have reached the file */

/* Writes what is left and the index; `order` lists contig numbers by place. The data's size, 0 for a pipe. */
uint64_t output_finish(struct output *output, const struct contigs *contigs, const uint32_t *order);

/*
 * For data that stays as it is: only its index is made. The first record begins at the virtual offset `from`, each one
 * ends at its `to`, the last of the file's text at `end`.
 */
struct output *output_start_index_only(const struct output_plan *plan, bool csi, uint64_t from);
void output_index_record(struct output *output, uint32_t place, uint32_t start, uint32_t end, bool ends_elsewhere,
                         uint64_t to);
void output_finish_index_only(struct output *output, const struct contigs *contigs, const uint32_t *order,
                              uint64_t end);

void output_drop(struct output *output); /* without finishing it, however it was started */

/* Takes the data back: its file, from the start, no longer has a name. */
int output_read_back(struct output *output);

/* Removes what was created; for failures. */
void output_remove(const struct output_plan *plan);

#endif
