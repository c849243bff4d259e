/* Records in memory: text and numbers one after the other in one piece, and their sorting. */
#ifndef STORE_H
#define STORE_H

#include "contigs.h"

/* What stands before each record's text, here and in runs on disk. The text has its newline. */
struct head {
    uint32_t contig;
    uint32_t order; /* start << 1, and 1 for what is of the source: what was added stands before it */
    uint32_t end, n;
};

struct key {
    uint64_t order; /* contig's place << 32 | the head's */
    uint64_t at;    /* of the head, in the store */
};

struct store {
    char *bytes;
    size_t size;  /* reserved addresses, not memory */
    size_t used;
    size_t count;
};

void store_start(struct store *store, size_t size);
void store_free(struct store *store);
void store_empty(struct store *store); /* gives the memory back */

/* Bytes in use when `n` more bytes of one record have come, the sorting of all included. */
size_t store_need(const struct store *store, size_t n);

/* Appends a newline. The caller has seen to it that it fits. */
void store_add(struct store *store, struct head head, const char *text);

/* The record at `at`; `text` points into the store. */
struct head store_read(const struct store *store, uint64_t at, const char **text);

/*
 * Keys of all records by (contig's place, start, [end,] input order), valid until the store changes.
 * The contigs must have their places.
 */
const struct key *store_sort(struct store *store, const struct contigs *contigs, bool by_end);

#endif
