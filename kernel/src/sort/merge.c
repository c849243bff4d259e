/* See merge.h. A binary heap of cursors; the older run wins among equals, which keeps the input's order. */
#define _GNU_SOURCE
#include "sort/merge.h"

#include <stdlib.h>

#include "failure.h"

enum { LEAST_BUFFER = 32 << 10, MOST_BUFFER = 4 << 20 };

struct heap {
    struct cursor *cursors; /* heap[0] is the next record */
    struct cursor **heap;
    size_t count;
    const struct contigs *contigs;
};

static bool before(const struct cursor *a, const struct cursor *b)
{
    if (a->order != b->order)
        return a->order < b->order;
    return a->age < b->age;
}

static void sink_down(struct heap *h, size_t i)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= h->count)
            return;
        if (child + 1 < h->count && before(h->heap[child + 1], h->heap[child]))
            child++;
        if (!before(h->heap[child], h->heap[i]))
            return;
        struct cursor *swap = h->heap[i];
        h->heap[i] = h->heap[child];
        h->heap[child] = swap;
        i = child;
    }
}

static bool step(const struct heap *h, struct cursor *c)
{
    if (!cursor_next(c))
        return false;
    c->order = (uint64_t)h->contigs->all[c->key.contig].place << 32 | c->key.order;
    return true;
}

static void merge_some(struct heap *h, const struct runs *runs, const struct run *from, size_t count, char *buffers,
                       size_t size, merge_sink *sink, void *to)
{
    h->count = 0;
    for (size_t i = 0; i < count; i++) {
        struct cursor *c = &h->cursors[i];
        cursor_start(c, runs, &from[i], buffers + i * size, size);
        if (step(h, c))
            h->heap[h->count++] = c;
    }
    for (size_t i = h->count; i-- > 0;)
        sink_down(h, i);
    while (h->count) {
        struct cursor *c = h->heap[0];
        sink(to, c);
        if (!step(h, c))
            h->heap[0] = h->heap[--h->count];
        sink_down(h, 0);
    }
}

static void into_run(void *to, struct cursor *c)
{
    run_add(to, &c->key, sizeof c->key);
    const char *piece;
    for (size_t n; (n = cursor_text(c, &piece));)
        run_add(to, piece, n);
}

static int by_age(const void *a, const void *b)
{
    const struct run *x = a, *y = b;
    return x->age < y->age ? -1 : x->age > y->age;
}

void merge(struct runs *runs, const struct contigs *contigs, size_t memory, merge_sink *sink, void *to)
{
    size_t fan = memory / LEAST_BUFFER < 2 ? 2 : memory / LEAST_BUFFER;
#ifdef MERGE_FAN
    fan = MERGE_FAN; /* tests: several passes for a few runs */
#endif
    /* Only neighbours may become one run: ties are told apart by age. */
    qsort(runs->all, runs->count, sizeof *runs->all, by_age);
    if (fan > runs->count)
        fan = runs->count;
    size_t size = memory / fan > MOST_BUFFER ? MOST_BUFFER : memory / fan;
    if (size < LEAST_BUFFER)
        size = LEAST_BUFFER;
    struct heap h = {.contigs = contigs};
    h.cursors = xrealloc(NULL, fan * sizeof *h.cursors);
    h.heap = xrealloc(NULL, fan * sizeof *h.heap);
    char *buffers = xrealloc(NULL, fan * size);
    while (runs->count > fan) {
        struct runs longer;
        runs_start(&longer, runs->folder);
        for (size_t i = 0; i < runs->count; i += fan) {
            size_t count = runs->count - i < fan ? runs->count - i : fan;
            run_begin(&longer, runs->all[i].age);
            merge_some(&h, runs, runs->all + i, count, buffers, size, into_run, &longer);
            run_end(&longer);
        }
        runs_free(runs);
        *runs = longer;
    }
    merge_some(&h, runs, runs->all, runs->count, buffers, size, sink, to);
    free(buffers);
    free(h.heap);
    free(h.cursors);
}
