/*
 * How many records lie on each stretch of each sequence, counted as they pass: what a view of whole sequences shows.
 *
 * A sequence is cut into windows of 2^shift bases. Of each window it is known how many records begin in it and how many
 * have their last base in it; so a record costs the same however long it is, how many overlap a window is
 *     (all that begin in it or before) - (all that end before it),
 * and two neighbours are one window of twice the size by addition. `shift` is the least from DENSITY_SHIFT for which the
 * windows with anything in them, one of each sequence not counted, are at most DENSITY_ROWS. So the table is a pure
 * function of the records, whoever counts them (src/gooseherd/processing/programs/count_records.py does too).
 *
 * A table, little-endian: "GHDENS1\n", u32 shift, u32 sequences; then of each sequence, in the order in which they were
 * given: u64 its length if that is declared, else 0, u64 highest end of a record, u32 bytes of the name, u32 rows, the name,
 * and the rows by window: u32 window, u32 records that begin in it, u32 that end in it. Counts stop at 2^32 - 1.
 *
 * It is a side product: without memory or disk for it there is none, and nothing fails.
 */
#ifndef DENSITY_H
#define DENSITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef DENSITY_ROWS /* tests make it small */
#define DENSITY_ROWS ((size_t)96 << 10)
#endif
enum { DENSITY_SHIFT = 10 };

struct density; /* everything here takes NULL for "there is none" */

struct density *density_start(void);
void density_drop(struct density *density);

/* A record on [from, to), not empty. Each `place` comes in one block. */
void density_add(struct density *density, uint32_t place, int64_t from, int64_t to);

/* What a place is: its name, not terminated, and how long it is said to be (0: not said). */
struct density_place {
    const char *name;
    size_t n;
    uint64_t length;
};
typedef struct density_place density_describe(const void *of, uint32_t place);

/* Writes the table to a file, which is removed when it cannot be finished; then drops it. */
void density_finish(struct density *density, const char *path, density_describe *what, const void *of);

/* Bytes that so many records, to this end at most, may need. */
uint64_t density_memory(uint64_t records, uint64_t max_end, uint64_t contigs);

#endif
