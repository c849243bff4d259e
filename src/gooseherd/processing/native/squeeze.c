/* See squeeze.h. */
#define _GNU_SOURCE
#include "squeeze.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "failure.h"

enum { LIBRARY_STACK = 3 << 20 }; /* of htslib's threads, at least */

/* The file will be removed, so the bytes of the question do no harm. */
_Noreturn void squeeze_failed(int fd, const char *what)
{
    static char zeros[64 << 10];
    struct stat found;
    if (!errno && memory_ran_out())
        errno = ENOMEM;
    if (!errno && fd >= 0 && fstat(fd, &found) == 0 && S_ISREG(found.st_mode) && lseek(fd, 0, SEEK_END) >= 0)
        for (int i = 0; i < 16 && !errno; i++)
            if (write(fd, zeros, sizeof zeros) < 0)
                break;
    if (!errno)
        errno = memory_is_short() ? ENOMEM : EIO;
    fail_io(what);
}

static void *wait_with_others(void *of)
{
    pthread_barrier_wait(of);
    return NULL;
}

/*
 * htslib waits for ever for a thread that could not be started. So as many are started here first, which fails in a way
 * that can be told; the memory of their stacks stays with this process.
 */
static void make_room_for_threads(int n)
{
    pthread_t all[SQUEEZE_THREADS_MOST + 1];
    pthread_barrier_t barrier;
    pthread_attr_t attributes;
    if (pthread_barrier_init(&barrier, NULL, (unsigned)n + 1) != 0 || pthread_attr_init(&attributes) != 0 ||
        pthread_attr_setstacksize(&attributes, LIBRARY_STACK) != 0)
        fail_memory("could not start compression threads");
    for (int i = 0; i < n; i++)
        if (pthread_create(&all[i], &attributes, wait_with_others, &barrier) != 0)
            fail_memory("could not start compression threads");
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < n; i++)
        pthread_join(all[i], NULL);
    pthread_attr_destroy(&attributes);
    pthread_barrier_destroy(&barrier);
}

BGZF *squeeze_start(int fd, int level, int threads)
{
    char mode[3] = {'w', (char)('0' + level), 0};
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    errno = 0;
    BGZF *bgzf = copy < 0 ? NULL : bgzf_dopen(copy, mode);
    if (!bgzf)
        squeeze_failed(-1, "opening the output");
    if (threads > 1) {
        make_room_for_threads(threads + 1);
        if (bgzf_mt(bgzf, threads, 256) != 0)
            fail_memory("could not start compression threads");
    }
    return bgzf;
}
