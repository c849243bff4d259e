/* See contigs.h. The hash is keyed with random bytes: names come from strangers, who must not choose collisions. */
#define _GNU_SOURCE
#include "formats/contigs.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "failure.h"
#include "source_limits.h"

enum { POOL_BLOCK = 64 << 10, WINDOW_SHIFT = 14 };

struct pool_block {
    struct pool_block *before;
    char bytes[];
};

void contigs_start(struct contigs *c)
{
    memset(c, 0, sizeof *c);
    /* Numbers follow first mention, not the hash: the result does not depend on these bytes. */
    if (getrandom(c->secret, sizeof c->secret, 0) != sizeof c->secret)
        fail_io("asking for random bytes");
    c->slot_mask = 1023;
    c->slots = xrealloc(NULL, (c->slot_mask + 1) * sizeof *c->slots);
    memset(c->slots, 0, (c->slot_mask + 1) * sizeof *c->slots);
    c->memory = (c->slot_mask + 1) * sizeof *c->slots;
}

void contigs_free(struct contigs *c)
{
    free(c->all);
    free(c->seen);
    free(c->slots);
    while (c->blocks) {
        struct pool_block *before = c->blocks->before;
        free(c->blocks);
        c->blocks = before;
    }
}

static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint32_t contigs_hash(const struct contigs *c, const char *name, size_t n)
{
    uint64_t h = c->secret[0] ^ n;
    while (n > 0) {
        uint64_t word = 0;
        size_t step = n < 8 ? n : 8;
        memcpy(&word, name, step);
        h = fold(h ^ word, c->secret[1] | 1) + c->secret[0];
        name += step;
        n -= step;
    }
    return (uint32_t)(h ^ h >> 32);
}

const char *contigs_copy_bytes(struct contigs *c, const char *name, size_t n)
{
    if (n > c->pool_left) {
        size_t size = n > POOL_BLOCK ? n : POOL_BLOCK;
        struct pool_block *block = xrealloc(NULL, sizeof *block + size);
        block->before = c->blocks;
        c->blocks = block;
        c->pool = block->bytes;
        c->pool_left = size;
        c->memory += sizeof *block + size;
    }
    char *copy = c->pool;
    memcpy(copy, name, n);
    c->pool += n;
    c->pool_left -= n;
    return copy;
}

static void rehash(struct contigs *c)
{
    uint32_t size = (c->slot_mask + 1) * 2;
    c->memory += (size_t)(size / 2) * sizeof *c->slots;
    c->slots = xrealloc(c->slots, size * sizeof *c->slots);
    memset(c->slots, 0, size * sizeof *c->slots);
    c->slot_mask = size - 1;
    for (uint32_t i = 0; i < c->count; i++) {
        uint32_t at = c->all[i].hash & c->slot_mask;
        while (c->slots[at])
            at = (at + 1) & c->slot_mask;
        c->slots[at] = i + 1;
    }
}

static bool is(const struct contig *contig, const char *name, size_t n)
{
    return contig->n == n && memcmp(contig->name, name, n) == 0;
}

/* Its place in the slots: the name's, or the free one where it belongs. */
static uint32_t slot_of(const struct contigs *c, uint32_t hash, const char *name, size_t n)
{
    uint32_t at = hash & c->slot_mask;
    for (; c->slots[at]; at = (at + 1) & c->slot_mask) {
        const struct contig *contig = &c->all[c->slots[at] - 1];
        if (contig->hash == hash && is(contig, name, n))
            break;
    }
    return at;
}

static const char *find(struct contigs *c, const char *line, size_t n)
{
    const char *tab = memchr(line, '\t', n);
    if (!tab || tab == line)
        return NULL;
    n = (size_t)(tab - line);
    if (c->last < c->count && is(&c->all[c->last], line, n))
        return tab;
    uint32_t at = slot_of(c, contigs_hash(c, line, n), line, n);
    if (!c->slots[at])
        return NULL;
    c->last = c->slots[at] - 1;
    return tab;
}

const char *contigs_find_in_line(struct contigs *c, const char *line, size_t n)
{
    static const uint64_t ones = 0x0101010101010101u, tabs = '\t' * ones, highs = 0x80 * ones;
    uint64_t word;
    if (n < sizeof word)
        return find(c, line, n);
    memcpy(&word, line, sizeof word);
    uint64_t other = word ^ tabs, found = (other - ones) & ~other & highs;
    unsigned length = found ? (unsigned)__builtin_ctzll(found) / 8 : 0;
    if (!length)
        return find(c, line, n);
    word &= ~(uint64_t)0 >> (64 - 8 * length);
    struct short_name *known = &c->short_names[word * 0x9e3779b97f4a7c15u >> (64 - SHORT_NAMES_BITS)];
    if (known->word == word) {
        c->last = known->number;
        return line + length;
    }
    const char *tab = find(c, line, n);
    if (tab)
        *known = (struct short_name){word, c->last};
    return tab;
}

uint32_t contigs_intern(struct contigs *c, const char *name, size_t n, const char *what)
{
    if (c->last < c->count && is(&c->all[c->last], name, n))
        return c->last;
    uint32_t h = contigs_hash(c, name, n), at = slot_of(c, h, name, n);
    if (c->slots[at])
        return c->last = c->slots[at] - 1;
    if (c->count >= MAX_CONTIGS)
        fail(EXIT_LIMIT, SOURCE_INVALID, "more than %u different sequence names: this is no %s", MAX_CONTIGS, what);
    if (c->count == c->room) {
        uint32_t room = c->room ? c->room * 2 : 64;
        c->all = xrealloc(c->all, room * sizeof *c->all);
        c->memory += (size_t)(room - c->room) * sizeof *c->all;
        c->room = room;
    }
    c->all[c->count] = (struct contig){.name = contigs_copy_bytes(c, name, n), .n = (uint32_t)n, .hash = h};
    c->slots[at] = ++c->count;
    if (c->count > c->slot_mask / 2)
        rehash(c);
    return c->last = c->count - 1;
}

void contigs_count_record(struct contigs *c, uint32_t number, uint32_t end)
{
    struct contig *contig = &c->all[number];
    if (!contig->records++) {
        if (c->seen_count == c->seen_room) {
            uint32_t room = c->seen_room ? c->seen_room * 2 : 64;
            c->seen = xrealloc(c->seen, room * sizeof *c->seen);
            /* Twice: the order by name is a second list. */
            c->memory += 2 * (size_t)(room - c->seen_room) * sizeof *c->seen;
            c->seen_room = room;
        }
        c->seen[c->seen_count++] = number;
        c->windows++;
    }
    if (end > contig->max_end) {
        c->windows += (end >> WINDOW_SHIFT) - (contig->max_end >> WINDOW_SHIFT);
        contig->max_end = end;
    }
}

void contigs_forget_records(struct contigs *c)
{
    for (uint32_t i = 0; i < c->seen_count; i++)
        c->all[c->seen[i]].records = c->all[c->seen[i]].max_end = 0;
    c->seen_count = 0;
    c->windows = 0;
}

int contig_compare(const struct contig *a, const struct contig *b)
{
    int way = memcmp(a->name, b->name, a->n < b->n ? a->n : b->n);
    return way ? way : a->n < b->n ? -1 : a->n > b->n;
}

static int by_name(const void *a, const void *b, void *of)
{
    const struct contig *all = of;
    return contig_compare(&all[*(const uint32_t *)a], &all[*(const uint32_t *)b]);
}

static uint32_t *placed(struct contigs *c, bool sort)
{
    uint32_t *order = xrealloc(NULL, c->seen_count * sizeof *order);
    if (c->seen_count)
        memcpy(order, c->seen, c->seen_count * sizeof *order);
    if (sort)
        qsort_r(order, c->seen_count, sizeof *order, by_name, c->all);
    for (uint32_t i = 0; i < c->seen_count; i++)
        c->all[order[i]].place = i;
    return order;
}

uint32_t *contigs_by_name(struct contigs *c)
{
    return placed(c, true);
}

uint32_t *contigs_by_appearance(struct contigs *c)
{
    return placed(c, false);
}
