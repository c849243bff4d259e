/* Records in memory, in buckets by where they begin, and their sorting. */
#ifndef SORT_BUFFER_H
#define SORT_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is known of a record, here and before its text in runs on disk. The text has its newline. */
struct record_key {
    uint32_t contig;
    uint32_t order; /* start << 1, and 1 for what does not stand first (format.h) */
    uint32_t end, n;
};

struct sort_buffer {
    char *bytes;
    size_t size; /* reserved addresses, not memory */
    size_t used; /* from the bottom */
    size_t count;
    size_t most; /* records of the largest bucket */

    struct contig_buckets *by_contig; /* by contig: its buckets */
    uint32_t contig_count;
    size_t tables; /* bytes of all that, beside what sort_buffer_need counts */
};

void sort_buffer_start(struct sort_buffer *buffer, size_t size);
void sort_buffer_free(struct sort_buffer *buffer);
void sort_buffer_empty(struct sort_buffer *buffer); /* gives the memory back */

/* Bytes in use when that record has come as well, the sorting of all included. Its text has no newline yet. */
size_t sort_buffer_need(const struct sort_buffer *buffer, struct record_key key);

/* Appends the newline. The caller has seen to it that it fits. */
void sort_buffer_add(struct sort_buffer *buffer, struct record_key key, const char *text);

/* Within a contig: as they came, which is enough when their starts ascend, or by start and then as they came. */
enum record_order { AS_THEY_CAME, BY_START };

typedef void sort_buffer_sink(void *to, struct record_key key, const char *text);

/* All records of `n` contigs, one contig after the other. */
void sort_buffer_each(const struct sort_buffer *buffer, const uint32_t *contigs, uint32_t n, enum record_order order,
                      sort_buffer_sink *sink, void *to);

#endif
