/*
 * See store.h. The keys are made when all text is there, behind it: 16 bytes a record and as many again to sort
 * them, counted from the start (store_need), so that sorting never asks for memory that the budget does not have.
 */
#define _GNU_SOURCE
#include "store.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "failure.h"

enum { DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS };

void store_start(struct store *s, size_t size)
{
    memset(s, 0, sizeof *s);
    s->size = size;
    /* Addresses only: pages become memory when written. */
    s->bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (s->bytes == MAP_FAILED)
        fail(EXIT_MEMORY, OUT_OF_MEMORY, "ran out of memory: cannot reserve %zu bytes", size);
    /* Writing in sorted order jumps about: with 4 KB pages, address translation would take half the time. */
    (void)madvise(s->bytes, size, MADV_HUGEPAGE);
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
}

static size_t keys_at(const struct store *s)
{
    return (s->used + 15) & ~(size_t)15;
}

size_t store_need(const struct store *s, size_t n)
{
    return s->used + sizeof(struct head) + n + 1 + 16 + 2 * sizeof(struct key) * (s->count + 1);
}

void store_add(struct store *s, struct head head, const char *text)
{
    char *to = s->bytes + s->used;
    size_t n = head.n++;
    memcpy(to, &head, sizeof head);
    memcpy(to + sizeof head, text, n);
    to[sizeof head + n] = '\n';
    s->used += sizeof head + n + 1;
    s->count++;
}

struct head store_read(const struct store *s, uint64_t at, const char **text)
{
    struct head head;
    memcpy(&head, s->bytes + at, sizeof head);
    *text = s->bytes + at + sizeof head;
    return head;
}

/* Stable, by digits from the lowest; digits that all keys share cost nothing. */
static struct key *radix(struct key *keys, struct key *other, size_t n, uint64_t differs)
{
    static size_t counts[DIGITS + 1];
    for (int shift = 0; shift < 64; shift += DIGIT_BITS) {
        if (!(differs >> shift & (DIGITS - 1)))
            continue;
        memset(counts, 0, sizeof counts);
        for (size_t i = 0; i < n; i++)
            counts[(keys[i].order >> shift & (DIGITS - 1)) + 1]++;
        for (int d = 0; d < DIGITS; d++)
            counts[d + 1] += counts[d];
        for (size_t i = 0; i < n; i++)
            other[counts[keys[i].order >> shift & (DIGITS - 1)]++] = keys[i];
        struct key *swap = keys;
        keys = other;
        other = swap;
    }
    return keys;
}

static uint32_t end_at(const char *bytes, uint64_t at)
{
    uint32_t end;
    memcpy(&end, bytes + at + offsetof(struct head, end), sizeof end);
    return end;
}

/* `order` holds ends here; input order is the address. */
static int by_end_then_input(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* Among records that start together, shorter ones first. */
static void sort_ties(const struct store *s, struct key *keys, size_t n)
{
    for (size_t from = 0, to; from < n; from = to) {
        uint64_t shared = keys[from].order;
        for (to = from + 1; to < n && keys[to].order == shared; to++)
            ;
        if (to - from == 1)
            continue;
        bool sorted = true;
        for (size_t i = from; i < to; i++) {
            keys[i].order = end_at(s->bytes, keys[i].at);
            sorted = sorted && (i == from || keys[i - 1].order <= keys[i].order);
        }
        if (!sorted)
            qsort(keys + from, to - from, sizeof *keys, by_end_then_input);
        for (size_t i = from; i < to; i++)
            keys[i].order = shared;
    }
}

const struct key *store_sort(struct store *s, const struct contigs *contigs, bool by_end)
{
    struct key *keys = (struct key *)(void *)(s->bytes + keys_at(s));
    uint64_t any = 0, all = ~(uint64_t)0, at = 0;
    bool sorted = true;
    for (size_t i = 0; i < s->count; i++) {
        const char *text;
        struct head head = store_read(s, at, &text);
        keys[i].order = (uint64_t)contigs->all[head.contig].place << 32 | head.order;
        keys[i].at = at;
        any |= keys[i].order;
        all &= keys[i].order;
        sorted = sorted && (i == 0 || keys[i - 1].order <= keys[i].order);
        at += sizeof head + head.n;
    }
    if (!sorted)
        keys = radix(keys, keys + s->count, s->count, any ^ all);
    if (by_end)
        sort_ties(s, keys, s->count);
    return keys;
}
