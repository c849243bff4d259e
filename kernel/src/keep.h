/* The way that writes nothing but an index: for a source that is already what the pass would make of it. */
#ifndef KEEP_H
#define KEEP_H

#include "ingest.h"

/*
 * Index the source as it stands, if it is BGZF to its end, in order, and nothing in it would be changed. False: it is
 * not, and all of `ingest` but its options is as after ingest_start. For that the source must be a file: from a pipe
 * there is no way back, and the run ends with EXIT_NOT_KEPT or EXIT_WANTS_CSI.
 */
bool keep_source(struct ingest *ingest);

#endif
