/* See text.h. */
#include "formats/text.h"

#include <string.h>

#include "failure.h"

void text_add(struct text *t, const void *bytes, size_t n)
{
    if (t->n + n > t->room) {
        t->room = (t->n + n) * 2;
        t->bytes = xrealloc(t->bytes, t->room);
    }
    if (n)
        memcpy(t->bytes + t->n, bytes, n);
    t->n += n;
}

void text_add_word(struct text *to, const char *word)
{
    text_add(to, word, strlen(word));
}

void text_add_number(struct text *to, uint32_t value)
{
    char digits[10];
    int at = sizeof digits;
    do
        digits[--at] = (char)('0' + value % 10);
    while (value /= 10);
    text_add(to, digits + at, sizeof digits - (size_t)at);
}

char *text_reserve(struct text *t, size_t n)
{
    if (n > t->room) {
        t->room = n;
        t->bytes = xrealloc(t->bytes, n);
    }
    return t->bytes;
}

bool starts_with(const char *line, size_t n, const char *what)
{
    size_t length = strlen(what);
    return n >= length && memcmp(line, what, length) == 0;
}

bool ends_with(const char *text, size_t n, const char *what)
{
    size_t length = strlen(what);
    return n >= length && memcmp(text + n - length, what, length) == 0;
}

size_t without_trailing_space(const char *line, size_t n)
{
    while (n && is_space(line[n - 1]))
        n--;
    return n;
}

size_t next_word(const char *line, size_t n, size_t *at)
{
    while (*at < n && is_space(line[*at]))
        ++*at;
    size_t from = *at;
    while (*at < n && !is_space(line[*at]))
        ++*at;
    return from;
}
