/*
 * One reading of a source, line by line, and what is known of it so far. Two ways to an index go over it: inplace.h, which
 * writes nothing else, and ingest.h, which sorts.
 */
#ifndef PASS_H
#define PASS_H

#include "failure.h"
#include "formats/reader.h"
#include "input.h"
#include "lines.h"
#include "options.h"
#include "progress.h"

struct pass {
    const struct options *options;
    struct input *input;
    int again; /* another descriptor of the source, while it may have to be read anew; -1: none */
    struct lines lines;
    struct contigs contigs;
    struct reader reader;
    struct progress progress;
    struct output *output; /* NULL: not begun, or finished */
    struct text header;    /* as it is in the output */
    const char *phase;

    bool sorted; /* so far */
    bool csi;    /* an end lies beyond TBI */
    uint32_t last_contig, last_start;
    uint32_t max_end;
    uint64_t records, record_bytes; /* read */
    uint64_t written;               /* bytes of records that went out */

    /* For the report: */
    bool restarted; /* the output was read back as if it were the source */
    bool kept;      /* the source is the result: only its index was made */
    uint64_t spills, spilled_bytes;
    uint64_t header_lines, bytes_out;
};

void pass_start(struct pass *pass, const struct options *options, int source); /* takes over `source` */
void pass_free(struct pass *pass);

/* Whether the source's order ends here (ingest.h, THE ORDER). */
bool pass_breaks_order(const struct pass *pass, const struct record *record);

/* The record that stands next; `to` is where its interval in the index ends. */
void pass_count(struct pass *pass, const struct record *record, int64_t to);
void pass_forget_records(struct pass *pass); /* they will all come again */

/* What is left of the memory that was given, when others hold so many bytes. Too little ends the process. */
uint64_t pass_memory_left(const struct pass *pass, uint64_t others);

/* Of the line given last. Call it before the line is judged: half a line is mostly an invalid one. */
void pass_refuse_cut_line(const struct pass *pass);

void pass_tell(struct pass *pass, const char *phase, bool now); /* progress: when it is due, or now */
void pass_done(struct pass *pass);

#endif
