/* How a run ends badly: an exit status, a reason from the service's closed list, one sentence. */
#ifndef FAILURE_H
#define FAILURE_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

enum {
    EXIT_DONE = 0,
    EXIT_USAGE = 2,
    EXIT_INVALID = 10,   /* the source breaks its format */
    EXIT_TRUNCATED = 11, /* the source ends too early */
    EXIT_LIMIT = 12,     /* the source is beyond a limit given on the command line */
    EXIT_NOT_KEPT = 13,  /* --keep, and the source came by a pipe: run again without, it must be packed */
    EXIT_WANTS_CSI = 14, /* --keep, likewise: run again on the file, its index must be a CSI */
    EXIT_IO = 20,        /* reading or writing failed, disk full included */
    EXIT_MEMORY = 21,    /* --memory, or the machine's, is too small */
};

#define SOURCE_INVALID "source_invalid"
#define SOURCE_TOO_LARGE "source_too_large"
#define OUT_OF_DISK "out_of_disk"
#define OUT_OF_MEMORY "out_of_memory"
#define TOOL_FAILED "tool_failed"

struct failure {
    int code;
    const char *reason;
    uint64_t line; /* from 1 in the uncompressed text; 0: not about one line */
    char detail[400];
};

/* Called once, before the process ends: writes the report, removes partial outputs. May jump away (fuzzing). */
extern void (*failure_handler)(const struct failure *);
void failure_forget(void); /* after it has jumped away: the next failure is the first again */

/* All of these end the process. The first failure wins when two threads fail at once. */
_Noreturn void fail_with(const struct failure *failure);
_Noreturn void fail(int code, const char *reason, const char *format, ...) __attribute__((format(printf, 3, 4)));
_Noreturn void refuse(uint64_t line, const char *format, ...) __attribute__((format(printf, 2, 3)));
_Noreturn void fail_io(const char *what); /* reads errno: a full disk is told apart */

/* The reason and status that errno stands for. */
void failure_of_errno(struct failure *failure, const char *what);

/*
 * What libraries do on their own threads leaves no errno behind: their allocations are watched from here on. Call once,
 * before there are threads; those need less memory then, too.
 */
void memory_watch(void);
bool memory_is_short(void); /* an allocation was seen to fail, or would now */

_Noreturn void fail_memory(const char *what);     /* "ran out of memory: WHAT" */
_Noreturn void fail_library(const char *what);    /* a library said only that it failed: short memory is told apart */
_Noreturn void fail_library_io(const char *what); /* one that reads or writes: errno says how, or nothing does */
void failure_of_library(struct failure *failure, const char *what); /* likewise; reads errno */

void *xrealloc(void *old, size_t bytes); /* realloc that never returns NULL */

#endif
