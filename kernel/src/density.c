/* See density.h. One sequence at a time is counted in arrays, then appended to the rows of those before it. */
#define _GNU_SOURCE
#include "density.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_SHIFT = 31, NO_PLACE = UINT32_MAX };

struct row {
    uint32_t window, begun, ended;
};

struct stretch {
    uint64_t end;
    uint32_t place;
    uint32_t rows;
};

struct density {
    bool lost; /* no memory: there will be no table */
    unsigned shift;
    uint32_t place;
    uint64_t end;
    uint32_t *begun, *ended; /* of this sequence, by window; zero beyond `top` */
    size_t room, top;        /* windows */
    struct row *rows;
    size_t row_count, row_room;
    struct stretch *stretches;
    size_t stretch_count, stretch_room;
};

struct density *density_start(void)
{
    struct density *d = calloc(1, sizeof *d);
    if (d) {
        d->shift = DENSITY_SHIFT;
        d->place = NO_PLACE;
    }
    return d;
}

void density_drop(struct density *d)
{
    if (!d)
        return;
    free(d->begun);
    free(d->ended);
    free(d->rows);
    free(d->stretches);
    free(d);
}

uint64_t density_memory(uint64_t records, uint64_t max_end, uint64_t contigs)
{
    uint64_t rows = 2 * records < DENSITY_ROWS + contigs ? 2 * records : DENSITY_ROWS + contigs;
    return ((max_end >> DENSITY_SHIFT) + 1) * 2 * sizeof(uint32_t) + rows * 2 * sizeof(struct row) +
           contigs * 2 * sizeof(struct stretch);
}

static void more(uint32_t *count, uint32_t by)
{
    *count = *count > UINT32_MAX - by ? UINT32_MAX : *count + by;
}

/* Room for one more; whether there is. */
static bool reach(struct density *d, void **all, size_t *room, size_t wanted, size_t size)
{
    if (wanted <= *room)
        return true;
    size_t next = *room * 2 > wanted ? *room * 2 : wanted + 64;
    void *wider = realloc(*all, next * size);
    if (!wider) {
        d->lost = true;
        return false;
    }
    *all = wider;
    *room = next;
    return true;
}

static bool widen(struct density *d, size_t windows)
{
    size_t room = d->room;
    if (windows <= room)
        return true;
    if (!reach(d, (void **)&d->begun, &room, windows, sizeof *d->begun))
        return false;
    uint32_t *ended = realloc(d->ended, room * sizeof *ended);
    if (!ended) {
        d->lost = true;
        return false;
    }
    d->ended = ended;
    memset(d->begun + d->room, 0, (room - d->room) * sizeof *d->begun);
    memset(d->ended + d->room, 0, (room - d->room) * sizeof *d->ended);
    d->room = room;
    return true;
}

/* Windows twice the size. */
static void coarsen(struct density *d)
{
    size_t from = 0, to = 0;
    for (size_t i = 0; i < d->stretch_count; i++) {
        struct stretch *s = &d->stretches[i];
        size_t first = to, stop = from + s->rows;
        for (; from < stop; from++) {
            struct row row = d->rows[from];
            row.window >>= 1;
            if (to > first && d->rows[to - 1].window == row.window) {
                more(&d->rows[to - 1].begun, row.begun);
                more(&d->rows[to - 1].ended, row.ended);
            } else {
                d->rows[to++] = row;
            }
        }
        s->rows = (uint32_t)(to - first);
    }
    d->row_count = to;
    d->shift++;
}

/* `window` is one of 2^shift bases, not before the last one of its sequence, which is the last stretch. */
static void append(struct density *d, unsigned shift, uint32_t window, uint32_t begun, uint32_t ended)
{
    struct stretch *s = &d->stretches[d->stretch_count - 1];
    for (;;) {
        uint32_t now = window >> (d->shift - shift);
        struct row *last = s->rows ? &d->rows[d->row_count - 1] : NULL;
        if (last && last->window == now) {
            more(&last->begun, begun);
            more(&last->ended, ended);
            return;
        }
        if (!last || d->row_count - d->stretch_count < DENSITY_ROWS || d->shift >= MOST_SHIFT) {
            if (reach(d, (void **)&d->rows, &d->row_room, d->row_count + 1, sizeof *d->rows)) {
                d->rows[d->row_count++] = (struct row){now, begun, ended};
                s->rows++;
            }
            return;
        }
        coarsen(d);
    }
}

/* The sequence at hand is over. */
static void close_place(struct density *d)
{
    if (!d->end || d->lost)
        return;
    if (!reach(d, (void **)&d->stretches, &d->stretch_room, d->stretch_count + 1, sizeof *d->stretches))
        return;
    d->stretches[d->stretch_count++] = (struct stretch){.end = d->end, .place = d->place};
    unsigned shift = d->shift;
    for (size_t w = 0; w <= d->top && !d->lost; w++)
        if (d->begun[w] | d->ended[w])
            append(d, shift, (uint32_t)w, d->begun[w], d->ended[w]);
    memset(d->begun, 0, (d->top + 1) * sizeof *d->begun);
    memset(d->ended, 0, (d->top + 1) * sizeof *d->ended);
    d->top = 0;
    d->end = 0;
}

void density_add(struct density *d, uint32_t place, int64_t from, int64_t to)
{
    if (!d || d->lost)
        return;
    if (place != d->place) {
        close_place(d);
        d->place = place;
    }
    size_t first = (size_t)from >> d->shift, last = (size_t)(to - 1) >> d->shift;
    if (from < 0 || to <= from || to > (int64_t)1 << 32 || d->lost || !widen(d, last + 1))
        return;
    more(&d->begun[first], 1);
    more(&d->ended[last], 1);
    if (last > d->top)
        d->top = last;
    if ((uint64_t)to > d->end)
        d->end = (uint64_t)to;
}

static bool write_table(const struct density *d, FILE *to, density_describe *what, const void *of)
{
    uint32_t top[2] = {d->shift, (uint32_t)d->stretch_count};
    fwrite("GHDENS1\n", 8, 1, to);
    fwrite(top, sizeof top, 1, to);
    const struct row *rows = d->rows;
    for (size_t i = 0; i < d->stretch_count; i++) {
        const struct stretch *s = &d->stretches[i];
        struct density_place place = what(of, s->place);
        uint64_t ends[2] = {place.length, s->end};
        uint32_t sizes[2] = {(uint32_t)place.n, s->rows};
        fwrite(ends, sizeof ends, 1, to);
        fwrite(sizes, sizeof sizes, 1, to);
        fwrite(place.name, 1, place.n, to);
        fwrite(rows, sizeof *rows, s->rows, to);
        rows += s->rows;
    }
    return !ferror(to);
}

void density_finish(struct density *d, const char *path, density_describe *what, const void *of)
{
    if (!d)
        return;
    close_place(d);
    FILE *to = d->lost ? NULL : fopen(path, "we");
    if (to) {
        struct stat found;
        bool ours = fstat(fileno(to), &found) == 0 && S_ISREG(found.st_mode); /* a device is there for others too */
        bool good = write_table(d, to, what, of);
        if ((fclose(to) != 0 || !good) && ours)
            unlink(path);
    }
    density_drop(d);
}
