/* Ends the process with a named reason. One run does one thing, so nothing needs to be unwound. */
#define _GNU_SOURCE
#include "failure.h"

#include <errno.h>
#include <libdeflate.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void (*failure_handler)(const struct failure *);

/* Of each thread, ours and htslib's, which asks for 3 MB of its own accord: the system's 8 MB count as used. */
enum { THREAD_STACK = 1 << 20 };
/* More than any one thing that is asked for while records go by, but an index that doubles. */
enum { SHORT_OF = 4 << 20 };

static atomic_flag failing = ATOMIC_FLAG_INIT;
static atomic_bool ran_out;

void failure_forget(void)
{
    atomic_flag_clear(&failing);
}

_Noreturn void fail_with(const struct failure *failure)
{
    if (atomic_flag_test_and_set(&failing))
        for (;;)
            pause();
    if (failure_handler)
        failure_handler(failure);
    /* Not exit(): other threads are still working, and its handlers would race with them. */
    _exit(failure->code);
}

static void put(struct failure *f, int code, const char *reason, uint64_t line, const char *format, va_list args)
{
    f->code = code;
    f->reason = reason;
    f->line = line;
    int used = line ? snprintf(f->detail, sizeof f->detail, "line %llu: ", (unsigned long long)line) : 0;
    vsnprintf(f->detail + used, sizeof f->detail - (size_t)used, format, args);
}

_Noreturn void fail(int code, const char *reason, const char *format, ...)
{
    struct failure f;
    va_list args;
    va_start(args, format);
    put(&f, code, reason, 0, format, args);
    va_end(args);
    fail_with(&f);
}

_Noreturn void refuse(uint64_t line, const char *format, ...)
{
    struct failure f;
    va_list args;
    va_start(args, format);
    put(&f, EXIT_INVALID, SOURCE_INVALID, line, format, args);
    va_end(args);
    fail_with(&f);
}

void failure_of_errno(struct failure *f, const char *what)
{
    int cause = errno;
    f->line = 0;
    if (cause == ENOSPC || cause == EDQUOT || cause == EFBIG) {
        f->code = EXIT_IO;
        f->reason = OUT_OF_DISK;
        snprintf(f->detail, sizeof f->detail, "ran out of disk space while %s", what);
    } else if (cause == ENOMEM) {
        f->code = EXIT_MEMORY;
        f->reason = OUT_OF_MEMORY;
        snprintf(f->detail, sizeof f->detail, "ran out of memory while %s", what);
    } else {
        f->code = EXIT_IO;
        f->reason = TOOL_FAILED;
        snprintf(f->detail, sizeof f->detail, "%s failed: %s", what, strerror(cause));
    }
}

_Noreturn void fail_io(const char *what)
{
    struct failure f;
    failure_of_errno(&f, what);
    fail_with(&f);
}

static void *watched(size_t bytes)
{
    void *new = malloc(bytes);
    if (!new)
        atomic_store(&ran_out, true);
    return new;
}

void memory_watch(void)
{
    pthread_attr_t attributes;
    libdeflate_set_memory_allocator(watched, free);
    if (pthread_attr_init(&attributes) == 0) {
        if (pthread_attr_setstacksize(&attributes, THREAD_STACK) == 0)
            (void)pthread_setattr_default_np(&attributes);
        pthread_attr_destroy(&attributes);
    }
}

bool memory_is_short(void)
{
    if (atomic_load(&ran_out))
        return true;
    void *some = mmap(NULL, SHORT_OF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (some == MAP_FAILED)
        return true;
    munmap(some, SHORT_OF);
    return false;
}

_Noreturn void fail_memory(const char *what)
{
    fail(EXIT_MEMORY, OUT_OF_MEMORY, "ran out of memory: %s", what);
}

void failure_of_library(struct failure *f, const char *what)
{
    bool memory = errno == ENOMEM || memory_is_short();
    f->code = memory ? EXIT_MEMORY : EXIT_IO;
    f->reason = memory ? OUT_OF_MEMORY : TOOL_FAILED;
    f->line = 0;
    snprintf(f->detail, sizeof f->detail, "%s%s", memory ? "ran out of memory: " : "", what);
}

_Noreturn void fail_library(const char *what)
{
    struct failure f;
    failure_of_library(&f, what);
    fail_with(&f);
}

_Noreturn void fail_library_io(const char *what)
{
    if (!errno)
        errno = memory_is_short() ? ENOMEM : EIO;
    fail_io(what);
}

void *xrealloc(void *old, size_t bytes)
{
    void *new = realloc(old, bytes ? bytes : 1);
    if (!new)
        fail(EXIT_MEMORY, OUT_OF_MEMORY, "ran out of memory");
    return new;
}
