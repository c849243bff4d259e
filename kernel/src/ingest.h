/*
 * From the source's lines to the sorted, indexed output, in one pass.
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
 * THE WAYS. Records are held in memory. When they fill it, then if the source is
 *   not in order     a sorted run is written to disk, and at the end the runs are merged;
 *   still in order   they go to the output at once and every later record behind them (streaming). That may be wrong: when
 *                    a record comes that breaks the order or needs a CSI, or a header line that belongs above, the output
 *                    is read back as if it were the source, once, and nothing is streamed any more;
 *   ... and output is not to be read back (a pipe, a second time)
 *                    they are appended to a journal in their order, which is the output's at the end, or is sorted into
 *                    runs when the order breaks after all.
 */
#ifndef INGEST_H
#define INGEST_H

#include "pass.h"
#include "sort/merge.h"

struct ingest {
    struct pass *pass;
    struct sort_buffer buffer;
    struct runs runs;    /* sorted */
    struct runs journal; /* in the source's order, while that is an order */
    bool streaming;      /* records go straight to the output */
    bool may_stream;
    uint32_t *order; /* contigs by place, in the end */
    uint64_t next_age;
    uint64_t ticks;
    uint64_t room, room_until, room_windows; /* what records may fill, until so many or other windows are there */
};

void ingest_start(struct ingest *ingest, struct pass *pass);
void ingest_run(struct ingest *ingest);
void ingest_free(struct ingest *ingest);

#endif
