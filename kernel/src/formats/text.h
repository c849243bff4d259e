/* Text that grows, and looking at pieces of a line. */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
    char *bytes;
    size_t n, room;
};

void text_add(struct text *text, const void *bytes, size_t n);
void text_add_word(struct text *text, const char *word);
void text_add_number(struct text *text, uint32_t value);
char *text_reserve(struct text *text, size_t n); /* room for that many bytes from its start; what it held may be gone */

static inline bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

bool starts_with(const char *line, size_t n, const char *what);
bool ends_with(const char *text, size_t n, const char *what);
size_t without_trailing_space(const char *line, size_t n); /* how long it is without */

/* Where the next word from `at` on begins; `at` becomes its end. An empty one: there is none. */
size_t next_word(const char *line, size_t n, size_t *at);

#endif
