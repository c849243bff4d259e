/* gooseherd-hold: takes from a process what a tool does not need, and becomes the tool.
 *
 *     gooseherd-hold [--LIMIT=SOFT[:HARD] ...] [--filter] -- PROGRAM [ARGUMENTS]
 *     gooseherd-hold --probe       whether the kernel takes the filter; 0, or 1 and why not
 *
 * LIMIT is one of core, cpu (seconds), data, fsize (bytes), nofile, nproc, as prlimit spells them. Always: nothing it
 * runs gains rights, it dies with its parent. --filter: system calls are filtered, where the kernel can.
 * Exit status: the tool's; 2 for wrong usage, 125 for what the kernel refuses, 126 and 127 as a shell's. */
#define _GNU_SOURCE
#include "filter.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WRONG_USAGE = 2, NOT_HELD = 125, NOT_RUN = 126, NOT_FOUND = 127 };

static const struct {
    const char *name;
    int which;
} limits[] = {
    {"core", RLIMIT_CORE},   {"cpu", RLIMIT_CPU},       {"data", RLIMIT_DATA},
    {"fsize", RLIMIT_FSIZE}, {"nofile", RLIMIT_NOFILE}, {"nproc", RLIMIT_NPROC},
};

static _Noreturn void give_up(int status, const char *what, const char *why)
{
    fprintf(stderr, "gooseherd-hold: %s: %s\n", what, why);
    exit(status);
}

static rlim_t number(const char **at, const char *option)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(*at, &end, 10);
    if (end == *at || **at < '0' || **at > '9' || errno != 0)
        give_up(WRONG_USAGE, option, "not a number");
    *at = end;
    return (rlim_t)value;
}

static void set_limit(const char *option)
{
    const char *equals = strchr(option, '=');
    for (size_t i = 0; equals != NULL && i < sizeof limits / sizeof *limits; i++) {
        size_t size = strlen(limits[i].name);
        if ((size_t)(equals - option) != size + 2 || strncmp(option + 2, limits[i].name, size) != 0)
            continue;
        const char *at = equals + 1;
        struct rlimit limit;
        limit.rlim_cur = limit.rlim_max = number(&at, option);
        if (*at == ':') {
            at++;
            limit.rlim_max = number(&at, option);
        }
        if (*at != '\0')
            give_up(WRONG_USAGE, option, "not a number");
        if (setrlimit((__rlimit_resource_t)limits[i].which, &limit) != 0)
            give_up(NOT_HELD, option, strerror(errno));
        return;
    }
    give_up(WRONG_USAGE, option, "unknown");
}

static int probe(void)
{
    int refusal = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? load_filter() : errno;
    if (refusal != 0) {
        printf("the kernel refuses a filter: %s\n", strerror(refusal));
        return 1;
    }
    if (socket(AF_INET, SOCK_STREAM, 0) >= 0 || errno != EPERM) {
        puts("the kernel took a filter and does not follow it");
        return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    int at = 1, filter = 0;
    if (argc == 2 && strcmp(argv[1], "--probe") == 0)
        return probe();
    for (; at < argc && strcmp(argv[at], "--") != 0; at++) {
        if (strcmp(argv[at], "--filter") == 0)
            filter = 1;
        else
            set_limit(argv[at]);
    }
    if (at + 1 >= argc)
        give_up(WRONG_USAGE, "usage", "[--LIMIT=SOFT[:HARD] ...] [--filter] -- PROGRAM [ARGUMENTS]");
    char **tool = argv + at + 1;

    /* What this process was started with ignored or blocked, it would pass on. */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGXCPU, SIG_DFL);
    signal(SIGXFSZ, SIG_DFL);

    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        give_up(NOT_HELD, "parent", strerror(errno));
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        give_up(NOT_HELD, "rights", strerror(errno));
    if (filter) {
        int refusal = load_filter();
        if (refusal != 0 && refusal != EINVAL && refusal != ENOSYS)
            give_up(NOT_HELD, "filter", strerror(refusal));
    }
    execvp(*tool, tool);
    give_up(errno == ENOENT ? NOT_FOUND : NOT_RUN, *tool, strerror(errno));
}
