/* Lines of JSON for whoever watches: cheap to call often, never blocks, at most four lines a second. */
#ifndef PROGRESS_H
#define PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    int fd;       /* -1: nobody watches */
    int64_t last; /* monotonic nanoseconds */
};

struct progress_state {
    const char *phase;      /* read, sort, merge, write, done */
    uint64_t in, in_total;  /* compressed bytes of the source; total 0: unknown */
    uint64_t text, written; /* uncompressed bytes of records: taken in, given out */
    uint64_t out;           /* compressed bytes in the output file */
};

bool progress_due(struct progress *progress);
void progress_tell(struct progress *progress, const struct progress_state *state);

#endif
