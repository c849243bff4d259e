/*
 * See store.h. Text grows from the bottom of the piece, keys from its top: 16 bytes a record, and as many again to sort
 * them, counted from the start (store_need), so that sorting never asks for memory that the budget does not have.
 *
 * A record that would reach into another cache line goes to the next one where little is lost by that: reading in sorted
 * order is waiting for lines.
 *
 * A key is two words: contig << 32 | the head's order, and the address of the head. To be sorted it is made one word where
 * that is wide enough, which it is for all but very many sequences: only bits that differ between records are kept.
 */
#define _GNU_SOURCE
#include "store.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "failure.h"

enum { LITTLE = 12 }; /* bytes of a cache line */
enum { DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS, KEY = 2 * sizeof(uint64_t) };

void store_start(struct store *s, size_t size)
{
    memset(s, 0, sizeof *s);
    s->size = size & ~(size_t)(KEY - 1);
    s->all = UINT32_MAX;
    /* Addresses only: pages become memory when written. */
    s->bytes = mmap(NULL, s->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (s->bytes == MAP_FAILED)
        fail(EXIT_MEMORY, OUT_OF_MEMORY, "ran out of memory: cannot reserve %zu bytes", size);
    /* Writing in sorted order jumps about: with 4 KB pages, address translation would take half the time. */
    (void)madvise(s->bytes, s->size, MADV_HUGEPAGE);
}

void store_free(struct store *s)
{
    if (s->bytes)
        munmap(s->bytes, s->size);
}

void store_empty(struct store *s)
{
    if (s->count)
        (void)madvise(s->bytes, s->size, MADV_DONTNEED);
    s->used = s->count = 0;
    s->all = UINT32_MAX;
    s->any = 0;
}

size_t store_need(const struct store *s, size_t n)
{
    return s->used + LITTLE + sizeof(struct head) + n + 1 + 2 * KEY * (s->count + 1);
}

/* The word of that number, from the top. */
static uint64_t *from_top(const struct store *s, size_t word)
{
    return (uint64_t *)(void *)(s->bytes + s->size) - word;
}

void store_add(struct store *s, struct head head, const char *text)
{
    uint64_t *key = from_top(s, 2 * (s->count + 1));
    size_t left = -s->used % CACHE_LINE;
    if (left <= LITTLE && sizeof head + head.n + 1 > left)
        s->used += left;
    key[0] = (uint64_t)head.contig << 32 | head.order;
    key[1] = s->used;
    s->all &= head.order;
    s->any |= head.order;
    char *to = s->bytes + s->used;
    size_t n = head.n++;
    memcpy(to, &head, sizeof head);
    memcpy(to + sizeof head, text, n);
    to[sizeof head + n] = '\n';
    s->used += sizeof head + n + 1;
    s->count++;
}

uint64_t store_at(const struct store *s, size_t i)
{
    return from_top(s, 2 * (i + 1))[1];
}

struct head store_read(const struct store *s, uint64_t at, const char **text)
{
    struct head head;
    memcpy(&head, s->bytes + at, sizeof head);
    *text = s->bytes + at + sizeof head;
    return head;
}

static unsigned bits_of(uint64_t value)
{
    return value ? 64 - (unsigned)__builtin_clzll(value) : 0;
}

/* How orders become as few bits as tell them apart: the start's low and high bits that all share are left out. */
struct code {
    unsigned drop, start_bits, bits;
    uint64_t mask;
};

static struct code code_of(const struct store *s, const struct contigs *contigs)
{
    uint32_t differs = s->all ^ s->any;
    struct code code = {.drop = differs ? (unsigned)__builtin_ctz(differs) : 0};
    code.start_bits = bits_of(differs >> code.drop);
    code.mask = ((uint64_t)1 << code.start_bits) - 1;
    code.bits = code.start_bits + bits_of(contigs->seen_count ? contigs->seen_count - 1 : 0);
    return code;
}

/* A sort by digits of the first word of each key, from the lowest one. */
struct digits {
    unsigned shift, bits, n;
    size_t counts[64 / DIGIT_BITS + 1][DIGITS];
};

static inline size_t digit(const struct digits *d, uint64_t word, unsigned i)
{
    return word >> (d->shift + i * d->bits) & (((uint64_t)1 << d->bits) - 1);
}

/* Codes the keys where they lie, from the top as they came, in `width` words; whether they are in order already. */
static inline __attribute__((always_inline)) bool coded(struct store *s, const struct contigs *contigs,
                                                         const struct code *code, struct digits *d, size_t width)
{
    uint64_t before = 0;
    bool sorted = true;
    for (size_t i = 1; i <= s->count; i++) {
        uint64_t *key = from_top(s, 2 * i), at = key[1];
        uint64_t order = (uint64_t)contigs->all[key[0] >> 32].place << code->start_bits |
                         ((key[0] & UINT32_MAX) >> code->drop & code->mask);
        uint64_t *to = from_top(s, width * i);
        to[width - 1] = at;
        to[0] = order << d->shift | (width == 1 ? at : 0);
        for (unsigned k = 0; k < d->n; k++)
            d->counts[k][digit(d, to[0], k)]++;
        sorted = sorted && before <= order;
        before = order;
    }
    return sorted;
}

/* Stable. The first pass turns the keys about, too: the first one is at the top. */
static inline __attribute__((always_inline)) uint64_t *radix(struct store *s, struct digits *d, size_t width)
{
    size_t n = s->count;
    uint64_t *keys = from_top(s, width * n), *other = keys - width * n;
    for (unsigned k = 0; k < d->n; k++) {
        size_t *counts = d->counts[k], sum = 0;
        for (size_t i = 0; i < DIGITS; i++) {
            size_t here = counts[i];
            counts[i] = sum;
            sum += here;
        }
        for (size_t i = 0; i < n; i++) {
            const uint64_t *key = keys + width * (k ? i : n - 1 - i);
            uint64_t *to = other + width * counts[digit(d, key[0], k)]++;
            to[0] = key[0];
            to[width - 1] = key[width - 1];
        }
        uint64_t *swap = keys;
        keys = other;
        other = swap;
    }
    return keys;
}

static uint64_t *sorted(struct store *s, const struct contigs *contigs, const struct code *code, size_t width,
                        unsigned address_bits)
{
    static struct digits d;
    memset(&d, 0, sizeof d);
    d.shift = width == 1 ? address_bits : 0;
    d.n = (code->bits + DIGIT_BITS - 1) / DIGIT_BITS;
    d.bits = d.n ? (code->bits + d.n - 1) / d.n : 0;
    bool in_order = width == 1 ? coded(s, contigs, code, &d, 1) : coded(s, contigs, code, &d, 2);
    if (in_order || !d.n) {
        /* One pass that only turns them about. */
        d.n = 1;
        d.bits = 0;
        d.counts[0][0] = s->count;
    }
    return width == 1 ? radix(s, &d, 1) : radix(s, &d, 2);
}

struct ends {
    const struct store *store;
    size_t width;
    uint64_t mask;
};

static uint32_t end_at(const char *bytes, uint64_t at)
{
    uint32_t end;
    memcpy(&end, bytes + at + offsetof(struct head, end), sizeof end);
    return end;
}

static int by_end_then_input(const void *a, const void *b, void *of)
{
    const struct ends *ends = of;
    uint64_t x = ((const uint64_t *)a)[ends->width - 1] & ends->mask;
    uint64_t y = ((const uint64_t *)b)[ends->width - 1] & ends->mask;
    uint32_t left = end_at(ends->store->bytes, x), right = end_at(ends->store->bytes, y);
    if (left != right)
        return left < right ? -1 : 1;
    return x < y ? -1 : x > y;
}

/* Among records that start together, shorter ones first. */
static void sort_ties(const struct store *s, uint64_t *keys, struct ends ends)
{
    size_t width = ends.width;
    uint64_t order = width == 1 ? ~ends.mask : ~(uint64_t)0;
    for (size_t from = 0, to; from < s->count; from = to) {
        bool in_order = true;
        uint32_t before = 0;
        for (to = from; to < s->count && !((keys[to * width] ^ keys[from * width]) & order); to++) {
            if (to == from + 1)
                before = end_at(s->bytes, keys[from * width + width - 1] & ends.mask);
            if (to > from) {
                uint32_t end = end_at(s->bytes, keys[to * width + width - 1] & ends.mask);
                in_order = in_order && before <= end;
                before = end;
            }
        }
        if (!in_order)
            qsort_r(keys + from * width, to - from, width * sizeof *keys, by_end_then_input, &ends);
    }
}

struct sequence store_sort(struct store *s, const struct contigs *contigs, bool by_end)
{
    struct code code = code_of(s, contigs);
    unsigned address_bits = bits_of(s->used);
    size_t width = code.bits + address_bits <= 64 ? 1 : 2;
    uint64_t mask = width == 1 ? ((uint64_t)1 << address_bits) - 1 : ~(uint64_t)0;
    uint64_t *keys = sorted(s, contigs, &code, width, address_bits);
    if (by_end)
        sort_ties(s, keys, (struct ends){s, width, mask});
    return (struct sequence){keys, width, mask};
}
