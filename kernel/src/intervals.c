/* See intervals.h. */
#include "intervals.h"

#include <string.h>

#include "inplace.h"

void intervals_run(struct intervals *i, const struct options *options, int source)
{
    memset(&i->ingest, 0, sizeof i->ingest);
    pass_start(&i->pass, options, source);
    if (options->keep && index_in_place(&i->pass))
        return;
    ingest_start(&i->ingest, &i->pass);
    ingest_run(&i->ingest);
}

void intervals_free(struct intervals *i)
{
    pass_free(&i->pass);
    ingest_free(&i->ingest);
}
