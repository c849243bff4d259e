/*
 * `gooseherd-intervals pack`: what `samtools sort -u` writes, on standard input, becomes the BAM that it would have written
 * itself, with its index (that of `samtools index`, byte for byte) and how its reads lie (density.h), in one pass. The
 * bytes do not depend on the number of threads.
 *
 * Only its own words and ends are here (failure.h): what is wrong with the source, samtools says.
 */
#ifndef PACK_H
#define PACK_H

#include <stdbool.h>

struct pack {
    const char *out;     /* a path; the index becomes OUT.bai, or OUT.csi where a sequence is too long for that */
    const char *density; /* a path, or NULL */
    int level, threads;
};

/* `source` is closed. Failures end the process. */
void pack_run(const struct pack *pack, int source);

void pack_remove(const struct pack *pack); /* what was created; for failures */
void pack_forget(void);                    /* after a failure that was jumped away from */

int pack_main(int argc, char **argv);

#endif
