/* Cuts chunks into lines: numbers them, joins what chunks have split, bounds their length, refuses NUL. */
#ifndef LINES_H
#define LINES_H

#include "input.h"

struct lines {
    struct input *input;
    uint64_t number;   /* of the line given last, from 1 */
    bool open_end;     /* the last line had no newline */
    size_t longest;    /* the limit */
    char *carry;       /* a line that began in an earlier chunk */
    size_t carried, carry_size;
    const char *at, *end, *nul;
    uint64_t text_bytes;
};

void lines_start(struct lines *lines, struct input *input, size_t longest);
void lines_free(struct lines *lines);

/* The next line without its newline, valid until the next call; false at the end. */
bool lines_next(struct lines *lines, const char **line, size_t *n);

#endif
