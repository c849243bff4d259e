/* Records on disk: runs, each in its own order, one after the other in a file without a name. */
#ifndef RUNS_H
#define RUNS_H

#include "sort/sort_buffer.h"

struct run {
    uint64_t from, to; /* bytes in the file */
    uint64_t age;      /* place in the input's order */
};

struct runs {
    const char *folder;
    int fd; /* -1: no file yet */
    uint64_t end;
    struct run *all;
    size_t count, room;
    char *buffer;
    size_t filled;
};

enum { RUN_BUFFER = 256 << 10 };

void runs_start(struct runs *runs, const char *folder);
void runs_free(struct runs *runs); /* the disk space is free after this */

void run_begin(struct runs *runs, uint64_t age);
void run_add(struct runs *runs, const void *bytes, size_t n);
void run_end(struct runs *runs);

/* A reading place in one run. Memory is what was given, whatever a record's length. */
struct cursor {
    int fd;
    uint64_t at, to;
    char *buffer;
    size_t size, used, filled;
    struct record_key key; /* of the current record */
    size_t unread;         /* bytes of its text not taken yet */
    uint64_t order;        /* for the merge, as in a key */
    uint64_t age;
};

void cursor_start(struct cursor *cursor, const struct runs *runs, const struct run *run, char *buffer, size_t size);
bool cursor_next(struct cursor *cursor); /* to the next record; false at the end */

/* The next piece of the current record's text; 0 when it is all taken. */
size_t cursor_text(struct cursor *cursor, const char **piece);

#endif
