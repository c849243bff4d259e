/* Turns a file descriptor into uncompressed bytes, and proves that all of them are there. */
#ifndef DECODER_H
#define DECODER_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#include "failure.h"

struct decoder;

struct decode_limits {
    uint64_t bytes; /* most uncompressed bytes */
    uint64_t ratio; /* most uncompressed bytes per compressed one, above a floor */
};

/* Where in a chunk the text of a BGZF block begins, and where in the file that block does. */
struct block {
    uint64_t address;
    size_t at;
};

/* The blocks of a chunk in order, empty ones too; behind the last of them where the next one will begin. */
enum { BLOCKS_MOST = 64 };
struct blocks {
    struct block all[BLOCKS_MOST + 1];
    size_t n;
};

/* Takes over `fd`. */
struct decoder *decoder_new(int fd, struct decode_limits limits);
void decoder_free(struct decoder *decoder);

/*
 * Up to `room` (at least 64 KiB) uncompressed bytes; 0 at the end or on a failure, which has a code then.
 * Gives what has arrived instead of waiting for a full buffer, so that work starts while a download runs.
 */
size_t decoder_read(struct decoder *decoder, char *into, size_t room, struct blocks *blocks, struct failure *failure);

int decoder_dup(const struct decoder *decoder); /* another descriptor of a file that can be read anew; -1: no file */
bool decoder_is_blocks(const struct decoder *decoder); /* BGZF, and nothing else so far */

uint64_t decoder_taken(const struct decoder *decoder); /* compressed bytes read so far; any thread may ask */
size_t decoder_memory(const struct decoder *decoder);  /* what a window takes now; any thread may ask */
uint64_t decoder_size(const struct decoder *decoder);  /* of a regular file; 0: unknown */

/* After the end: */
const char *decoder_packing(const struct decoder *decoder);
bool decoder_lacks_end_marker(const struct decoder *decoder); /* BGZF without its empty last block */

#endif
