/* See parents.h. One id on two sequences (the pseudoautosomal regions of X and Y) is two genes. */
#define _GNU_SOURCE
#include "formats/parents.h"

#include <stdlib.h>
#include <string.h>

#include "failure.h"

static void rehash(struct parents *p)
{
    uint32_t size = p->slots ? (p->slot_mask + 1) * 2 : 1024;
    p->memory += (size_t)(p->slots ? size / 2 : size) * sizeof *p->slots;
    p->slots = xrealloc(p->slots, size * sizeof *p->slots);
    memset(p->slots, 0, size * sizeof *p->slots);
    p->slot_mask = size - 1;
    for (uint32_t i = 0; i < p->count; i++) {
        uint32_t at = p->all[i].hash & p->slot_mask;
        while (p->slots[at])
            at = (at + 1) & p->slot_mask;
        p->slots[at] = i + 1;
    }
}

static bool is(const struct parent *parent, bool transcript, uint32_t contig, const char *id, size_t n)
{
    return parent->id_n == n && parent->contig == contig && parent->transcript == transcript &&
           memcmp(parent->id, id, n) == 0;
}

static uint32_t find(struct parents *p, bool transcript, uint32_t contig, const char *id, size_t n)
{
    uint32_t last = p->last[transcript];
    if (last < p->count && is(&p->all[last], transcript, contig, id, n))
        return last;
    if (!p->slots || p->count > p->slot_mask / 2)
        rehash(p);
    uint32_t h = (contigs_hash(p->contigs, id, n) + transcript) ^ contig * 0x9e3779b1u, at = h & p->slot_mask;
    for (; p->slots[at]; at = (at + 1) & p->slot_mask) {
        uint32_t number = p->slots[at] - 1;
        if (p->all[number].hash == h && is(&p->all[number], transcript, contig, id, n))
            return p->last[transcript] = number;
    }
    if (p->count == p->room) {
        if (p->count >= (uint32_t)1 << 30)
            fail(EXIT_LIMIT, SOURCE_INVALID, "more than %u genes and transcripts: this is no GTF", p->count);
        uint32_t room = p->room ? p->room * 2 : 256;
        p->all = xrealloc(p->all, room * sizeof *p->all);
        p->memory += (size_t)(room - p->room) * sizeof *p->all;
        p->room = room;
    }
    p->all[p->count] = (struct parent){
        .id = contigs_copy_bytes(p->contigs, id, n),
        .id_n = (uint32_t)n,
        .hash = h,
        .contig = contig,
        .transcript = transcript,
        .start = UINT32_MAX,
        .gene = NO_PARENT,
    };
    p->slots[at] = ++p->count;
    p->missing++;
    return p->last[transcript] = p->count - 1;
}

uint32_t parents_intern(struct parents *p, bool transcript, uint32_t contig, const char *id, size_t n, uint32_t start,
                        uint32_t end)
{
    uint32_t number = find(p, transcript, contig, id, n);
    struct parent *parent = &p->all[number];
    if (start < parent->start)
        parent->start = start;
    if (end > parent->end)
        parent->end = end;
    return number;
}

void parents_mark_present(struct parents *p, uint32_t number)
{
    p->missing -= !p->all[number].present;
    p->all[number].present = true;
}

void parents_free(struct parents *p)
{
    free(p->all);
    free(p->slots);
}
