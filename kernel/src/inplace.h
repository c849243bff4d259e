/* The way that writes nothing but an index: for a source that is already what sorting (ingest.h) would make of it. */
#ifndef INPLACE_H
#define INPLACE_H

#include "pass.h"

/*
 * Index the source as it stands, if it is BGZF to its end, in order, and nothing in it would be changed. False: it is
 * not, and `pass` is as after pass_start. For that the source must be a file: from a pipe there is no way back, and the
 * run ends with EXIT_NOT_KEPT or EXIT_WANTS_CSI.
 */
bool index_in_place(struct pass *pass);

#endif
