/* Many sorted runs become one sequence of records, within a given memory. */
#ifndef MERGE_H
#define MERGE_H

#include "formats/contigs.h"
#include "sort/runs.h"

/* Takes one record whose text is still to be read from `cursor`. */
typedef void merge_sink(void *to, struct cursor *cursor);

/*
 * All records of all runs, in order, into `sink`. The contigs must have their places. When there are more runs
 * than `memory` has room for, neighbours are merged into longer runs first; the disk then holds up to twice.
 */
void merge(struct runs *runs, const struct contigs *contigs, size_t memory, merge_sink *sink, void *to);

#endif
