/* What gooseherd-intervals does with one source: index it in place if that is asked for and will do, else sort it. */
#ifndef INTERVALS_H
#define INTERVALS_H

#include "ingest.h"
#include "pass.h"

struct intervals {
    struct pass pass; /* what the report tells is here */
    struct ingest ingest;
};

void intervals_run(struct intervals *intervals, const struct options *options, int source); /* takes over `source` */
void intervals_free(struct intervals *intervals); /* also after a failure that was jumped away from */

#endif
