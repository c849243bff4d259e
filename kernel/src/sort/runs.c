/*
 * See runs.h. The file is unlinked as soon as it is open: however this process ends, nothing stays behind.
 * Runs are raw: disk is written and read once each, and compressing them would cost as much CPU as the output does.
 */
#define _GNU_SOURCE
#include "sort/runs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "failure.h"

void runs_start(struct runs *r, const char *folder)
{
    memset(r, 0, sizeof *r);
    r->folder = folder;
    r->fd = -1;
}

void runs_free(struct runs *r)
{
    if (r->fd >= 0)
        close(r->fd);
    free(r->all);
    free(r->buffer);
    memset(r, 0, sizeof *r);
    r->fd = -1;
}

static void open_file(struct runs *r)
{
    static const char name[] = "/runs-XXXXXX";
    size_t n = strlen(r->folder);
    char *path = xrealloc(NULL, n + sizeof name);
    memcpy(path, r->folder, n);
    memcpy(path + n, name, sizeof name);
    r->fd = mkostemp(path, O_CLOEXEC);
    if (r->fd < 0)
        fail_io("creating a file for sorted runs");
    unlink(path);
    free(path);
    r->buffer = xrealloc(NULL, RUN_BUFFER);
}

static void put(struct runs *r, const char *bytes, size_t n)
{
    while (n) {
        ssize_t done = write(r->fd, bytes, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            fail_io("writing sorted runs");
        bytes += done;
        n -= (size_t)done;
        r->end += (uint64_t)done;
    }
}

void run_begin(struct runs *r, uint64_t age)
{
    if (r->fd < 0)
        open_file(r);
    if (r->count == r->room) {
        r->room = r->room ? r->room * 2 : 16;
        r->all = xrealloc(r->all, r->room * sizeof *r->all);
    }
    r->all[r->count] = (struct run){.from = r->end, .age = age};
}

void run_add(struct runs *r, const void *bytes, size_t n)
{
    if (r->filled + n > RUN_BUFFER) {
        put(r, r->buffer, r->filled);
        r->filled = 0;
    }
    if (n > RUN_BUFFER) {
        put(r, bytes, n);
        return;
    }
    memcpy(r->buffer + r->filled, bytes, n);
    r->filled += n;
}

void run_end(struct runs *r)
{
    put(r, r->buffer, r->filled);
    r->filled = 0;
    r->all[r->count++].to = r->end;
}

void cursor_start(struct cursor *c, const struct runs *runs, const struct run *run, char *buffer, size_t size)
{
    *c = (struct cursor){
        .fd = runs->fd, .at = run->from, .to = run->to, .buffer = buffer, .size = size, .age = run->age};
}

/* At least `wanted` bytes in the buffer if the run has them; how many there are. */
static size_t fill(struct cursor *c, size_t wanted)
{
    size_t left = c->filled - c->used;
    if (left >= wanted || c->at == c->to)
        return left;
    memmove(c->buffer, c->buffer + c->used, left);
    c->used = 0;
    c->filled = left;
    while (c->filled < wanted && c->at < c->to) {
        size_t room = c->size - c->filled;
        if (room > c->to - c->at)
            room = (size_t)(c->to - c->at);
        ssize_t got = pread(c->fd, c->buffer + c->filled, room, (off_t)c->at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            if (got == 0)
                errno = EIO;
            fail_io("reading sorted runs");
        }
        c->filled += (size_t)got;
        c->at += (uint64_t)got;
    }
    return c->filled - c->used;
}

bool cursor_next(struct cursor *c)
{
    if (fill(c, sizeof c->key) < sizeof c->key)
        return false;
    memcpy(&c->key, c->buffer + c->used, sizeof c->key);
    c->used += sizeof c->key;
    c->unread = c->key.n;
    return true;
}

size_t cursor_text(struct cursor *c, const char **piece)
{
    if (!c->unread)
        return 0;
    size_t n = fill(c, c->unread < c->size ? c->unread : c->size);
    if (n > c->unread)
        n = c->unread;
    *piece = c->buffer + c->used;
    c->used += n;
    c->unread -= n;
    return n;
}
