/* Ends the process with a named reason. One run does one thing, so nothing needs to be unwound. */
#define _GNU_SOURCE
#include "failure.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void (*failure_told)(const struct failure *);

static atomic_flag failing = ATOMIC_FLAG_INIT;

void failure_forget(void)
{
    atomic_flag_clear(&failing);
}

_Noreturn void fail_with(const struct failure *failure)
{
    if (atomic_flag_test_and_set(&failing))
        for (;;)
            pause();
    if (failure_told)
        failure_told(failure);
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

void *grow(void *old, size_t bytes)
{
    void *new = realloc(old, bytes ? bytes : 1);
    if (!new)
        fail(EXIT_MEMORY, OUT_OF_MEMORY, "ran out of memory");
    return new;
}
