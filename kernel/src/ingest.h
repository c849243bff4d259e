/*
 * The one pass: from the source's lines to the sorted, indexed output. With --keep another may come before it, which
 * leaves nothing to do when the source is that output already (keep.h).
 *
 * THE ORDER. A source whose sequences stand in contiguous blocks with non-descending starts keeps its order, whatever
 * that of the names. Any other is sorted by name (byte-wise) and start; records that start together stay in the
 * source's order. So GNU sort gives the same lines for what is not sorted yet:
 *     BED: LC_ALL=C sort -s -t TAB -k1,1 -k2,2n     GFF: ... -k1,1 -k4,4n     VCF: ... -k1,1 -k2,2n
 * Records that a GTF lacks and that were added stand before all others with the same start; then nothing of the
 * source's order is kept.
 * GFF needs it because parents stand before their children, VCF because it has no end column.
 * The output depends on nothing else: not on threads, memory, what was spilled or which of the ways below was taken.
 *
 * THE WAYS. Records are held in memory. When they fill it:
 *   not in order     a sorted run is spilled, and at the end the runs are merged;
 *   still in order   they go out at once and every later record behind them (streaming), which is a bet: if one comes
 *                    that breaks the order, that needs CSI, or a header line that belongs above, the output is read
 *                    back as if it were the source, once, and the bet is not made again;
 *   ... and no bet   they are appended to a journal in their order, which is the output's at the end, or is
 *                    sorted into runs when the order breaks after all.
 */
#ifndef INGEST_H
#define INGEST_H

#include "failure.h"
#include "formats/reader.h"
#include "input.h"
#include "lines.h"
#include "sort/merge.h"
#include "options.h"
#include "progress.h"

struct ingest {
    const struct options *options;
    struct input *input;
    int again; /* another descriptor of the source while it is judged; -1: none */
    struct lines lines;
    struct contigs contigs;
    struct reader reader;
    struct store store;
    struct runs runs;    /* sorted */
    struct runs journal; /* in the source's order, while that is an order */
    struct progress progress;
    struct output *output;
    struct text header;
    uint32_t *order; /* contigs by place, in the end */

    bool sorted;    /* so far */
    bool streaming; /* records go straight to the output */
    bool may_stream;
    bool csi;       /* an end lies beyond TBI */
    bool restarted; /* the bet was lost */
    bool kept;      /* the source is the result: only its index was made */
    uint32_t last_contig, last_start;
    uint64_t next_age;
    uint64_t ticks;

    const char *phase;
    uint64_t records, record_bytes, written;
    uint64_t room, room_until, room_windows; /* what records may fill, until so many or other windows are there */
    uint64_t spills, spilled_bytes;
    uint32_t max_end;
    uint64_t header_lines, bytes_out;
};

void ingest_start(struct ingest *ingest, const struct options *options, int source);
void ingest_run(struct ingest *ingest);
void ingest_free(struct ingest *ingest);

/* For keep.c. */
uint64_t ingest_room(
    const struct ingest *ingest); /* what records may fill; ends the process when there is too little */
void ingest_tell(struct ingest *ingest, const char *phase);
bool ingest_breaks_order(const struct ingest *ingest, const struct record *record);
void ingest_note(struct ingest *ingest, const struct record *record, int64_t to); /* a record that stands next */

#endif
