/* See progress.h. */
#define _GNU_SOURCE
#include "progress.h"

#include <poll.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { APART_NS = 250000000 };

bool progress_due(struct progress *p)
{
    if (p->fd < 0)
        return false;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    if (p->last && ns - p->last < APART_NS)
        return false;
    p->last = ns;
    return true;
}

void progress_tell(struct progress *p, const struct progress_state *s)
{
    /* A reader that has stopped reading must not stop the work: a pipe that is ready takes a short line whole. */
    struct pollfd ready = {.fd = p->fd, .events = POLLOUT};
    if (p->fd < 0 || poll(&ready, 1, 0) != 1 || !(ready.revents & POLLOUT))
        return;
    char line[256];
    int n = snprintf(line, sizeof line,
                     "{\"phase\":\"%s\",\"in\":%llu,\"in_total\":%llu,\"text\":%llu,\"written\":%llu,\"out\":%llu}\n",
                     s->phase, (unsigned long long)s->in, (unsigned long long)s->in_total, (unsigned long long)s->text,
                     (unsigned long long)s->written, (unsigned long long)s->out);
    if (write(p->fd, line, (size_t)n) < 0)
        p->fd = -1;
}
