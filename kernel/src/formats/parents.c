/* See parents.h. One id on two sequences (the pseudoautosomal regions of X and Y) is two genes, and keeps its name on both. */
#define _GNU_SOURCE
#include "formats/parents.h"

#include <stdlib.h>
#include <string.h>

#include "failure.h"

/* gffread's GFF_MAX_LOCUS: the longest gene known has 2.5 Mb, an intron of a mouse 5 Mb. */
enum { MAX_LOCUS = 7000000 };
/* Of 2^23 bases, so that what is within MAX_LOCUS starts in the same or in a neighbouring one. */
enum { WINDOW_SHIFT = 23 };
/* So many parents of a stretch are looked through: nobody has more of one id. */
enum { LOOKED_THROUGH = 1024 };

/* --- tables ---------------------------------------------------------------------------------------------------- */

static void *more(struct parents *p, void *all, uint32_t count, uint32_t *room, size_t size)
{
    if (count < *room)
        return all;
    if (count >= (uint32_t)1 << 30)
        fail(EXIT_LIMIT, SOURCE_INVALID, "more than %u genes and transcripts: this is no GTF", count);
    uint32_t wider = *room ? *room * 2 : 256;
    p->memory += (size_t)(wider - *room) * size;
    *room = wider;
    return xrealloc(all, wider * size);
}

/* Room for one more; whether everything has to be put in again. */
static bool widen(struct parents *p, struct parents_slots *s, uint32_t count)
{
    if (s->slots && count <= s->mask / 2)
        return false;
    uint32_t size = s->slots ? (s->mask + 1) * 2 : 1024;
    p->memory += (size_t)(s->slots ? size / 2 : size) * sizeof *s->slots;
    s->slots = xrealloc(s->slots, size * sizeof *s->slots);
    memset(s->slots, 0, size * sizeof *s->slots);
    s->mask = size - 1;
    return true;
}

static uint32_t free_slot(const struct parents_slots *s, uint32_t hash)
{
    uint32_t at = hash & s->mask;
    while (s->slots[at])
        at = (at + 1) & s->mask;
    return at;
}

/* --- names ----------------------------------------------------------------------------------------------------- */

static bool is(const struct parent_name *name, bool transcript, uint32_t contig, const char *id, size_t n)
{
    return name->id_n == n && name->contig == contig && name->transcript == transcript && memcmp(name->id, id, n) == 0;
}

uint32_t parents_name(struct parents *p, bool transcript, uint32_t contig, const char *id, size_t n)
{
    uint32_t last = p->last_name[transcript];
    if (last < p->name_count && is(&p->names[last], transcript, contig, id, n))
        return last;
    if (widen(p, &p->by_name, p->name_count))
        for (uint32_t i = 0; i < p->name_count; i++)
            p->by_name.slots[free_slot(&p->by_name, p->names[i].hash)] = i + 1;
    uint32_t h = (contigs_hash(p->contigs, id, n) + transcript) ^ contig * 0x9e3779b1u, at = h & p->by_name.mask;
    for (; p->by_name.slots[at]; at = (at + 1) & p->by_name.mask) {
        uint32_t number = p->by_name.slots[at] - 1;
        if (p->names[number].hash == h && is(&p->names[number], transcript, contig, id, n))
            return p->last_name[transcript] = number;
    }
    p->names = more(p, p->names, p->name_count, &p->name_room, sizeof *p->names);
    p->names[p->name_count] = (struct parent_name){
        .id = contigs_copy_bytes(p->contigs, id, n),
        .id_n = (uint32_t)n,
        .hash = h,
        .contig = contig,
        .transcript = transcript,
        .latest = NO_PARENT,
    };
    p->by_name.slots[at] = ++p->name_count;
    return p->last_name[transcript] = p->name_count - 1;
}

/* --- places ---------------------------------------------------------------------------------------------------- */

static uint32_t hash_place(uint32_t name, uint32_t gene_name, uint32_t window, char strand)
{
    uint64_t h = ((uint64_t)name << 32 | gene_name) * 0x9e3779b97f4a7c15u;
    h = (h ^ h >> 29 ^ ((uint64_t)window << 8 | (unsigned char)strand)) * 0xbf58476d1ce4e5b9u;
    return (uint32_t)(h >> 32);
}

/* The slot of that stretch, empty or not. */
static uint32_t slot_of(const struct parents *p, uint32_t name, uint32_t gene_name, uint32_t window, char strand)
{
    uint32_t at = hash_place(name, gene_name, window, strand) & p->by_place.mask;
    for (; p->by_place.slots[at]; at = (at + 1) & p->by_place.mask) {
        const struct parent_place *there = &p->places[p->by_place.slots[at] - 1];
        if (there->name == name && there->gene_name == gene_name && there->window == window && there->strand == strand)
            break;
    }
    return at;
}

/* In the stretch where it starts. */
static void place(struct parents *p, uint32_t number)
{
    const struct parent *parent = &p->all[number];
    uint32_t window = parent->start >> WINDOW_SHIFT;
    if (widen(p, &p->by_place, p->place_count))
        for (uint32_t i = 0; i < p->place_count; i++) {
            const struct parent_place *there = &p->places[i];
            p->by_place.slots[slot_of(p, there->name, there->gene_name, there->window, there->strand)] = i + 1;
        }
    uint32_t at = slot_of(p, parent->name, parent->gene_name, window, parent->strand), before = p->by_place.slots[at];
    p->places = more(p, p->places, p->place_count, &p->place_room, sizeof *p->places);
    p->places[p->place_count] = (struct parent_place){
        .name = parent->name,
        .gene_name = parent->gene_name,
        .window = window,
        .parent = number,
        .next = before ? before - 1 : NO_PARENT,
        .strand = parent->strand,
    };
    p->by_place.slots[at] = ++p->place_count;
}

static bool overlaps(const struct parent *parent, const struct parent_query *q)
{
    return q->start <= parent->end && q->end >= parent->start;
}

static bool is_near(const struct parent *parent, const struct parent_query *q)
{
    uint32_t apart = q->start > parent->start ? q->start - parent->start : parent->start - q->start;
    return apart <= MAX_LOCUS;
}

/* What overlaps, else, if that is wanted, what is near; of several the one made last. */
static uint32_t look(const struct parents *p, const struct parent_query *q, uint32_t gene_name)
{
    uint32_t overlapping = NO_PARENT, near = NO_PARENT, window = q->start >> WINDOW_SHIFT;
    if (!p->by_place.slots)
        return NO_PARENT;
    for (uint32_t w = window ? window - 1 : 0; w <= window + 1; w++) {
        uint32_t found = p->by_place.slots[slot_of(p, q->name, gene_name, w, q->strand)];
        uint32_t at = found ? found - 1 : NO_PARENT;
        for (int i = 0; at != NO_PARENT && i < LOOKED_THROUGH; i++, at = p->places[at].next) {
            uint32_t number = p->places[at].parent;
            const struct parent *parent = &p->all[number];
            if (!is_near(parent, q))
                continue;
            if (overlaps(parent, q) && (overlapping == NO_PARENT || number > overlapping))
                overlapping = number;
            else if (near == NO_PARENT || number > near)
                near = number;
        }
    }
    return overlapping != NO_PARENT || !q->near ? overlapping : near;
}

static uint32_t find(const struct parents *p, const struct parent_query *q)
{
    const struct parent_name *name = &p->names[q->name];
    uint32_t last = p->last[name->transcript];
    bool known = last < p->count && p->all[last].name == q->name && p->all[last].strand == q->strand &&
                 p->all[last].gene_name == q->gene_name && is_near(&p->all[last], q);
    if (known && overlaps(&p->all[last], q))
        return last;
    uint32_t found = name->places ? look(p, q, q->gene_name) : NO_PARENT;
    if (found != NO_PARENT || !name->transcript || !name->places)
        return found;
    /* Some line does not say whose transcript it is. */
    if (q->gene_name != NO_PARENT)
        return look(p, q, NO_PARENT);
    const struct parent *latest = &p->all[name->latest];
    return latest->strand == q->strand && is_near(latest, q) ? name->latest : NO_PARENT;
}

uint32_t parents_at(struct parents *p, const struct parent_query *q)
{
    struct parent_name *name = &p->names[q->name];
    uint32_t number = find(p, q);
    if (number == NO_PARENT) {
        p->all = more(p, p->all, p->count, &p->room, sizeof *p->all);
        number = p->count++;
        p->all[number] = (struct parent){
            .name = q->name,
            .start = q->start,
            .end = q->end,
            .gene_name = q->gene_name,
            .gene = NO_PARENT,
            .repeat = name->places++,
            .strand = q->strand,
            .transcript = name->transcript,
        };
        name->latest = number;
        p->missing++;
        place(p, number);
    } else {
        struct parent *parent = &p->all[number];
        bool elsewhere = q->start >> WINDOW_SHIFT < parent->start >> WINDOW_SHIFT;
        if (q->start < parent->start)
            parent->start = q->start;
        if (q->end > parent->end)
            parent->end = q->end;
        if (elsewhere)
            place(p, number);
    }
    return p->last[name->transcript] = number;
}

void parents_mark_present(struct parents *p, uint32_t number)
{
    p->missing -= !p->all[number].present;
    p->all[number].present = true;
}

/* --- the end ---------------------------------------------------------------------------------------------------- */

static int by_start(const void *a, const void *b, void *of)
{
    uint32_t one = *(const uint32_t *)a, other = *(const uint32_t *)b;
    const struct parent *all = of;
    if (all[one].start != all[other].start)
        return all[one].start < all[other].start ? -1 : 1;
    return one < other ? -1 : one > other;
}

static struct parent_query gene_of(const struct parent *transcript)
{
    return (struct parent_query){
        .name = transcript->gene_name,
        .gene_name = NO_PARENT,
        .start = transcript->start,
        .end = transcript->end,
        .strand = transcript->strand,
    };
}

void parents_finish(struct parents *p)
{
    uint32_t *left = xrealloc(NULL, (p->count ? p->count : 1) * sizeof *left), n = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        const struct parent *t = &p->all[i];
        if (!t->transcript || t->gene_name == NO_PARENT)
            continue;
        if (t->gene == NO_PARENT) {
            if (!t->present)
                left[n++] = i;
            continue;
        }
        struct parent *gene = &p->all[t->gene];
        if (!gene->present && t->start < gene->start)
            gene->start = t->start;
        if (!gene->present && t->end > gene->end)
            gene->end = t->end;
    }
    /* In this order they come as gffread clusters them: none joins what was taken apart before. */
    qsort_r(left, n, sizeof *left, by_start, p->all);
    for (uint32_t i = 0; i < n; i++) {
        struct parent_query q = gene_of(&p->all[left[i]]);
        uint32_t gene = parents_at(p, &q);
        p->all[left[i]].gene = gene;
    }
    free(left);
}

void parents_free(struct parents *p)
{
    free(p->all);
    free(p->names);
    free(p->places);
    free(p->by_name.slots);
    free(p->by_place.slots);
}
