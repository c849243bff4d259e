/* Records in memory, in buckets by where they begin, and their sorting. */
#ifndef STORE_H
#define STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is known of a record, here and before its text in runs on disk. The text has its newline. */
struct head {
    uint32_t contig;
    uint32_t order; /* start << 1, and 1 for what is of the source: what was added stands before it */
    uint32_t end, n;
};

struct store {
    char *bytes;
    size_t size; /* reserved addresses, not memory */
    size_t used; /* from the bottom */
    size_t count;
    size_t most; /* records of the largest bucket */

    struct shelf *shelves; /* by contig: its buckets */
    uint32_t shelf_count;
    size_t tables; /* bytes of all that, beside what store_need counts */
};

void store_start(struct store *store, size_t size);
void store_free(struct store *store);
void store_empty(struct store *store); /* gives the memory back */

/* Bytes in use when that record has come as well, the sorting of all included. Its text has no newline yet. */
size_t store_need(const struct store *store, struct head head);

/* Appends the newline. The caller has seen to it that it fits. */
void store_add(struct store *store, struct head head, const char *text);

/* Within a contig: as they came, which is enough when their starts ascend, or by start and then as they came. */
enum store_order { AS_THEY_CAME, BY_START };

typedef void store_sink(void *to, struct head head, const char *text);

/* All records of `n` contigs, one contig after the other. */
void store_each(const struct store *store, const uint32_t *contigs, uint32_t n, enum store_order order,
                store_sink *sink, void *to);

#endif
