/*
 * See sort_buffer.h. A bucket holds the records of one contig that begin in one window. Writing in sorted order is waiting for
 * memory when it jumps about in all there is; a bucket fits into a core's cache, and the windows themselves need no
 * sorting. Many records in one window are only slower.
 *
 * A bucket's text is a chain of chunks, taken from one piece of memory from the bottom. They grow with the bucket, so
 * that little lies idle where there are many. A bucket's keys are made when it is its turn, at the top of the piece:
 * 8 bytes a record, and as many again to sort them, counted from the start (sort_buffer_need), so that sorting never asks for
 * memory that the budget does not have.
 */
#define _GNU_SOURCE
#include "sort/sort_buffer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "failure.h"

/* A window has 2 Mb: half a megabyte of a dense BED, and some 1,500 places at which a genome's records are appended. */
enum { WINDOW_BITS = 22, DIGIT_BITS = WINDOW_BITS / 2, DIGITS = 1 << DIGIT_BITS, ADDRESS_BITS = 64 - WINDOW_BITS };
enum { FIRST_CHUNK = 64, LARGEST_CHUNK = 16 << 10 };
enum { FEW = 128 }; /* records that are sorted sooner than digits are counted */

static const uint64_t ADDRESS = ((uint64_t)1 << ADDRESS_BITS) - 1;

/* What stands before each text: the rest of its key is the bucket's. */
struct entry {
    uint32_t order, end, n;
};

/* What stands before a chunk's records. */
struct chunk {
    uint64_t next, end; /* when it is not the last one */
};

/* All zero: no records. Places are offsets in the store. */
struct bucket {
    uint64_t at, end;     /* where the next record goes, and what the last chunk has room for */
    uint64_t first, last; /* chunks */
    size_t count;
};

struct contig_buckets {
    struct bucket *buckets; /* by window */
    uint32_t n;
};

void sort_buffer_start(struct sort_buffer *s, size_t size)
{
    memset(s, 0, sizeof *s);
    s->size = size & ~(size_t)(sizeof(uint64_t) - 1);
    /* Addresses only: pages become memory when written. */
    s->bytes = mmap(NULL, s->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (s->bytes == MAP_FAILED)
        fail(EXIT_MEMORY, OUT_OF_MEMORY, "ran out of memory: cannot reserve %zu bytes", size);
    /* Appending jumps about among buckets: with 4 KB pages, address translation would take its time. */
    (void)madvise(s->bytes, s->size, MADV_HUGEPAGE);
}

void sort_buffer_free(struct sort_buffer *s)
{
    if (s->bytes)
        munmap(s->bytes, s->size);
    for (uint32_t i = 0; i < s->contig_count; i++)
        free(s->by_contig[i].buckets);
    free(s->by_contig);
}

void sort_buffer_empty(struct sort_buffer *s)
{
    if (s->count)
        (void)madvise(s->bytes, s->size, MADV_DONTNEED);
    for (uint32_t i = 0; i < s->contig_count; i++)
        if (s->by_contig[i].n)
            memset(s->by_contig[i].buckets, 0, s->by_contig[i].n * sizeof(struct bucket));
    s->used = s->count = s->most = 0;
}

/* --- adding ------------------------------------------------------------------------------------------------------ */

/* NULL: there is no room for it yet. */
static inline struct bucket *find(const struct sort_buffer *s, uint32_t contig, uint32_t window)
{
    return contig < s->contig_count && window < s->by_contig[contig].n ? &s->by_contig[contig].buckets[window] : NULL;
}

/* With room for a record of so many bytes; they double, as the bucket does. */
static size_t next_chunk(const struct bucket *b, size_t bytes)
{
    size_t size = FIRST_CHUNK;
    if (b && b->count)
        size = 2 * (b->end - b->last);
    if (size > LARGEST_CHUNK)
        size = LARGEST_CHUNK;
    bytes += sizeof(struct chunk);
    return bytes > size ? bytes : size;
}

size_t sort_buffer_need(const struct sort_buffer *s, struct record_key key)
{
    const struct bucket *b = find(s, key.contig, key.order >> WINDOW_BITS);
    size_t bytes = sizeof(struct entry) + key.n + 1;
    size_t need = s->used + 2 * sizeof(uint64_t) * (s->most + 1);
    return b && bytes <= b->end - b->at ? need : need + next_chunk(b, bytes);
}

/* A longer table, in which what is new is zero. */
static void *lengthen(struct sort_buffer *s, void *table, uint32_t *n, uint32_t wanted, size_t size)
{
    uint32_t before = *n;
    *n = wanted < 2 * before ? 2 * before : wanted;
    table = xrealloc(table, *n * size);
    memset((char *)table + before * size, 0, (*n - before) * size);
    s->tables += (*n - before) * size;
    return table;
}

static struct bucket *make_room_for(struct sort_buffer *s, uint32_t contig, uint32_t window)
{
    if (contig >= s->contig_count)
        s->by_contig = lengthen(s, s->by_contig, &s->contig_count, contig + 1, sizeof *s->by_contig);
    struct contig_buckets *contig_buckets = &s->by_contig[contig];
    contig_buckets->buckets =
        lengthen(s, contig_buckets->buckets, &contig_buckets->n, window + 1, sizeof *contig_buckets->buckets);
    return &contig_buckets->buckets[window];
}

static void put_chunk(const struct sort_buffer *s, uint64_t at, struct chunk chunk)
{
    memcpy(s->bytes + at, &chunk, sizeof chunk);
}

static struct chunk chunk_at(const struct sort_buffer *s, uint64_t at)
{
    struct chunk chunk;
    memcpy(&chunk, s->bytes + at, sizeof chunk);
    return chunk;
}

static void add_chunk(struct sort_buffer *s, struct bucket *b, size_t bytes)
{
    size_t size = next_chunk(b, bytes);
    uint64_t at = s->used;
    if (b->count)
        put_chunk(s, b->last, (struct chunk){at, b->at});
    else
        b->first = at;
    b->last = at;
    b->at = at + sizeof(struct chunk);
    s->used += size;
    b->end = s->used;
}

void sort_buffer_add(struct sort_buffer *s, struct record_key key, const char *text)
{
    uint32_t window = key.order >> WINDOW_BITS;
    struct bucket *b = find(s, key.contig, window);
    if (!b)
        b = make_room_for(s, key.contig, window);
    size_t bytes = sizeof(struct entry) + key.n + 1;
    if (bytes > b->end - b->at)
        add_chunk(s, b, bytes);
    char *to = s->bytes + b->at;
    struct entry entry = {key.order, key.end, key.n + 1};
    memcpy(to, &entry, sizeof entry);
    memcpy(to + sizeof entry, text, key.n);
    to[bytes - 1] = '\n';
    /* Its next record comes when much else has been written: by then its place is at hand. */
    __builtin_prefetch(to + 2 * bytes, 1);
    b->at += bytes;
    b->count++;
    s->count++;
    if (b->count > s->most)
        s->most = b->count;
}

/* --- giving them back -------------------------------------------------------------------------------------------- */

static inline struct entry entry_at(const struct sort_buffer *s, uint64_t at)
{
    struct entry entry;
    memcpy(&entry, s->bytes + at, sizeof entry);
    return entry;
}

static inline void give(const struct sort_buffer *s, uint32_t contig, uint64_t at, sort_buffer_sink *sink, void *to)
{
    struct entry entry = entry_at(s, at);
    sink(to, (struct record_key){contig, entry.order, entry.end, entry.n}, s->bytes + at + sizeof entry);
}

/* A bucket's records as they came. */
struct walk {
    const struct bucket *bucket;
    uint64_t chunk, next, end;
};

static void walk_into(const struct sort_buffer *s, struct walk *w, uint64_t chunk)
{
    w->chunk = chunk;
    w->next = chunk + sizeof(struct chunk);
    w->end = chunk == w->bucket->last ? w->bucket->at : chunk_at(s, chunk).end;
}

static inline bool walk_on(const struct sort_buffer *s, struct walk *w, uint64_t *at)
{
    if (w->next == w->end) {
        if (w->chunk == w->bucket->last)
            return false;
        walk_into(s, w, chunk_at(s, w->chunk).next);
    }
    *at = w->next;
    w->next += sizeof(struct entry) + entry_at(s, w->next).n;
    return true;
}

/* The keys of a bucket: a record's order within the window, and its address. */
struct keys {
    uint64_t *all, *other; /* room for as many again */
    size_t n;
    bool in_order;
};

static void make_keys(const struct sort_buffer *s, const struct bucket *b, struct keys *k)
{
    struct walk walk = {.bucket = b};
    uint64_t at, before = 0;
    k->n = b->count;
    k->in_order = true;
    k->all = (uint64_t *)(void *)(s->bytes + s->size) - k->n;
    k->other = k->all - k->n;
    walk_into(s, &walk, b->first);
    for (uint64_t *key = k->all; walk_on(s, &walk, &at); key++) {
        *key = (uint64_t)entry_at(s, at).order << ADDRESS_BITS | at;
        k->in_order = k->in_order && before <= *key;
        before = *key;
    }
}

static inline size_t low(uint64_t key)
{
    return key >> ADDRESS_BITS & (DIGITS - 1);
}

static inline size_t high(uint64_t key)
{
    return key >> (ADDRESS_BITS + DIGIT_BITS);
}

static inline void by_digit(const uint64_t *keys, size_t n, uint64_t *to, size_t *counts, size_t (*digit)(uint64_t))
{
    for (size_t i = 0, sum = 0; i < DIGITS; i++) {
        size_t here = counts[i];
        counts[i] = sum;
        sum += here;
    }
    for (size_t i = 0; i < n; i++)
        to[counts[digit(keys[i])]++] = keys[i];
}

static void by_digits(struct keys *k)
{
    size_t lows[DIGITS] = {0}, highs[DIGITS] = {0};
    for (size_t i = 0; i < k->n; i++) {
        lows[low(k->all[i])]++;
        highs[high(k->all[i])]++;
    }
    by_digit(k->all, k->n, k->other, lows, low);
    by_digit(k->other, k->n, k->all, highs, high);
}

static int by_key(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* By order; what came later has a higher address. */
static void sort_keys(struct keys *k)
{
    if (k->in_order)
        return;
    if (k->n < FEW)
        qsort(k->all, k->n, sizeof *k->all, by_key);
    else
        by_digits(k);
}

static void each_sorted(const struct sort_buffer *s, uint32_t contig, const struct bucket *b, sort_buffer_sink *sink,
                        void *to)
{
    enum { AHEAD = 16 };
    struct keys keys;
    make_keys(s, b, &keys);
    sort_keys(&keys);
    for (size_t i = 0; i < keys.n; i++) {
        if (i + AHEAD < keys.n)
            __builtin_prefetch(s->bytes + (keys.all[i + AHEAD] & ADDRESS));
        give(s, contig, keys.all[i] & ADDRESS, sink, to);
    }
}

static void each_as_it_came(const struct sort_buffer *s, uint32_t contig, const struct bucket *b,
                            sort_buffer_sink *sink, void *to)
{
    struct walk walk = {.bucket = b};
    walk_into(s, &walk, b->first);
    for (uint64_t at; walk_on(s, &walk, &at);)
        give(s, contig, at, sink, to);
}

void sort_buffer_each(const struct sort_buffer *s, const uint32_t *contigs, uint32_t n, enum record_order order,
                      sort_buffer_sink *sink, void *to)
{
    for (; n; contigs++, n--)
        for (uint32_t window = 0; *contigs < s->contig_count && window < s->by_contig[*contigs].n; window++) {
            const struct bucket *b = &s->by_contig[*contigs].buckets[window];
            if (b->count && order == AS_THEY_CAME)
                each_as_it_came(s, *contigs, b, sink, to);
            else if (b->count)
                each_sorted(s, *contigs, b, sink, to);
        }
}
