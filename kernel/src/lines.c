/* See lines.h. */
#include "lines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AHEAD = 512 };

void lines_start(struct lines *l, struct input *input, size_t longest)
{
    memset(l, 0, sizeof *l);
    l->input = input;
    l->longest = longest;
}

void lines_free(struct lines *l)
{
    free(l->carry);
}

static void carry_over(struct lines *l, const char *data, size_t n)
{
    if (l->carried + n > l->longest) {
        struct failure f = {.code = EXIT_LIMIT, .reason = SOURCE_INVALID, .line = l->number + 1};
        snprintf(f.detail, sizeof f.detail, "line %llu: the line is longer than %zu bytes", (unsigned long long)f.line,
                 l->longest);
        fail_with(&f);
    }
    if (l->carried + n > l->carry_size) {
        l->carry_size = (l->carried + n) * 2;
        l->carry = xrealloc(l->carry, l->carry_size);
    }
    if (n)
        memcpy(l->carry + l->carried, data, n);
    l->carried += n;
}

static bool emit(struct lines *l, const char **line, size_t *n, const char *from, size_t length)
{
    l->number++;
    *line = from;
    *n = length;
    return true;
}

uint64_t lines_offset(struct lines *l)
{
    size_t place = (size_t)(l->at - l->chunk);
    const struct block *all = l->blocks->all;
    /* The end of a block is the start of the one behind it, even if that is empty. */
    while (l->block < l->blocks->n && all[l->block].at != place && all[l->block + 1].at <= place)
        l->block++;
    return all[l->block].address << 16 | (place - all[l->block].at);
}

bool lines_next(struct lines *l, const char **line, size_t *n)
{
    bool joined = false;
    for (;;) {
        if (l->at == l->end) {
            size_t got;
            if (!input_next(l->input, &l->at, &got, &l->blocks)) {
                l->at = l->end = NULL;
                if (!joined)
                    return false;
                l->open_end = true;
                size_t length = l->carried;
                l->carried = 0;
                return emit(l, line, n, l->carry, length);
            }
            l->end = l->at + got;
            l->chunk = l->at;
            l->block = 0;
            l->nul = memchr(l->at, 0, got);
            l->text_bytes += got;
        }
        const char *start = l->at;
        size_t left = (size_t)(l->end - start);
        __builtin_prefetch(start + AHEAD); /* what is done with lines between two of them may hide that they follow */
        const char *newline = memchr(start, '\n', left);
        const char *stop = newline ? newline : l->end;
        if (l->nul && l->nul < stop)
            refuse(l->number + 1, "a NUL byte: this is not text");
        l->at = newline ? newline + 1 : l->end;
        if (!joined && newline)
            return emit(l, line, n, start, (size_t)(newline - start));
        carry_over(l, start, (size_t)(stop - start));
        joined = true;
        if (newline) {
            size_t length = l->carried;
            l->carried = 0;
            return emit(l, line, n, l->carry, length);
        }
    }
}
