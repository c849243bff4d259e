/* Cuts chunks into lines: numbers them, joins what chunks have split, bounds their length, refuses NUL. */
#ifndef LINES_H
#define LINES_H

#include "input.h"

struct lines {
    struct input *input;
    uint64_t number; /* of the line given last, from 1 */
    bool open_end;   /* the last line had no newline */
    size_t longest;  /* the limit */
    char *carry;     /* a line that began in an earlier chunk */
    size_t carried, carry_size;
    const char *at, *end, *nul;
    const char *chunk;           /* where it began */
    const struct blocks *blocks; /* of that chunk, when the source is BGZF */
    size_t block;                /* of those the one that offsets were asked of last */
    uint64_t text_bytes;
};

void lines_start(struct lines *lines, struct input *input, size_t longest);
void lines_free(struct lines *lines);

/* The virtual file offset (SAMv1 4.1.1) behind the line given last, as htslib counts it. */
uint64_t lines_offset(struct lines *lines);

/* The next line without its newline, valid until the next call; false at the end. */
bool lines_next(struct lines *lines, const char **line, size_t *n);

#endif
