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

enum { CACHE_LINE = 64 };

struct store {
    char *bytes;
    size_t size;  /* reserved addresses, not memory */
    size_t used;
    size_t count;
    uint32_t all, any; /* bits of the heads' orders: which all have, which any has */
};

/* Where the records are, in order. */
struct sequence {
    const uint64_t *keys;
    size_t width;  /* words of each; the last one holds the address */
    uint64_t mask; /* in these bits */
};

static inline uint64_t sequence_at(const struct sequence *s, size_t i)
{
    return s->keys[i * s->width + s->width - 1] & s->mask;
}

void store_start(struct store *store, size_t size);
void store_free(struct store *store);
void store_empty(struct store *store); /* gives the memory back */

/* Bytes in use when `n` more bytes of one record have come, the sorting of all included. */
size_t store_need(const struct store *store, size_t n);

/* Appends a newline. The caller has seen to it that it fits. */
void store_add(struct store *store, struct head head, const char *text);

/* Where the record of that number is, in the order in which they came. */
uint64_t store_at(const struct store *store, size_t i);

/* The record at `at`; `text` points into the store. */
struct head store_read(const struct store *store, uint64_t at, const char **text);

/*
 * All records by (contig's place, start, [end,] input order), valid until the store changes. The contigs must have their
 * places.
 */
struct sequence store_sort(struct store *store, const struct contigs *contigs, bool by_end);

#endif
