/* See index_file.h. */
#define _GNU_SOURCE
#include "index_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bgzf/blockwriter.h"
#include "failure.h"

static const char what[] = "writing the index";

enum { QUICK_LEVEL = 1, MAGIC = 4, HEAD = MAGIC + 4 /* and the number of sequences */ };

void index_file_save(const hts_idx_t *index, const char *path, bool csi)
{
    errno = 0;
    if (hts_idx_save_as(index, NULL, path, csi ? HTS_FMT_CSI : HTS_FMT_TBI) < 0)
        fail_library_io(what);
}

struct unpacked {
    const hts_idx_t *index;
    int pipe[2];
    int error;
    bool failed;
};

/* htslib packs a TBI and a CSI always; a BAI it does not, and that is a TBI without the description of its columns. */
static void *write_bai(void *of)
{
    struct unpacked *u = of;
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", u->pipe[1]);
    errno = 0;
    u->failed = hts_idx_save_as(u->index, NULL, path, HTS_FMT_BAI) < 0;
    u->error = errno;
    close(u->pipe[1]);
    return NULL;
}

static size_t read_all(int fd, char *to, size_t n)
{
    size_t have = 0;
    while (have < n) {
        ssize_t more = read(fd, to + have, n - have);
        if (more < 0 && errno == EINTR)
            continue;
        if (more < 0)
            fail_io(what);
        if (more == 0)
            break;
        have += (size_t)more;
    }
    return have;
}

void index_file_save_quickly(hts_idx_t *index, const char *path, int threads)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        fail_io(what);
    struct unpacked unpacked = {.index = index};
    if (pipe2(unpacked.pipe, O_CLOEXEC) != 0)
        fail_io(what);
    pthread_t thread;
    if (pthread_create(&thread, NULL, write_bai, &unpacked) != 0)
        fail_memory("could not start a thread for the index");

    struct blockwriter *writer = blockwriter_start(fd, QUICK_LEVEL, threads, 0, NULL, NULL);
    char bytes[1 << 15];
    if (read_all(unpacked.pipe[0], bytes, HEAD) == HEAD) {
        uint32_t described = 0;
        const char *description = (const char *)hts_idx_get_meta(index, &described);
        blockwriter_text(writer, "TBI\1", MAGIC);
        blockwriter_text(writer, bytes + MAGIC, HEAD - MAGIC);
        blockwriter_text(writer, description, described);
        for (size_t n; (n = read_all(unpacked.pipe[0], bytes, sizeof bytes)) > 0;)
            blockwriter_text(writer, bytes, n);
    }
    pthread_join(thread, NULL);
    close(unpacked.pipe[0]);
    if (unpacked.failed) {
        errno = unpacked.error;
        fail_library_io(what);
    }
    blockwriter_end(writer);
    if (close(fd) != 0)
        fail_io(what);
}
