/*
 * A libFuzzer target: sorted reads from a pipe, in one process, over and over.
 *
 *     make fuzz
 *     build/fuzz/pack -max_len=4000 -detect_leaks=0 -rss_limit_mb=0 CORPUS
 *
 * The input is the reads inside the blocks, so that no checksum stands in the way of what changes; the first byte chooses
 * how large the blocks are, and which of two headers comes first: headers are htslib's to read. A refusal is a fine end;
 * anything the sanitisers see is not, nor a BAM that is not what came.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <htslib/bgzf.h>
#include <htslib/hts_log.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "failure.h"
#include "bam/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static jmp_buf refused;
static char data_path[64], table_path[64];
static struct pack pack = {.out = data_path, .density = table_path, .level = 1, .threads = 1};

static void on_failure(const struct failure *failure)
{
    if (!failure->detail[0])
        abort();
    longjmp(refused, 1);
}

/* Three sequences; of the long one an index is a CSI. */
static const char short_ones[] = "BAM\1\0\0\0\0\3\0\0\0\2\0\0\0b\0\x40\x42\x0f\0\2\0\0\0a\0\0\0\0\x10\2\0\0\0c\0\7\0\0";
static const char long_ones[] = "BAM\1\0\0\0\0\3\0\0\0\2\0\0\0b\0\x40\x42\x0f\0\2\0\0\0a\0\0\0\0\x70\2\0\0\0c\0\7\0\0";

/* A memfd with the input in stored blocks of `size` bytes. */
static int blocks_of(const uint8_t *data, size_t n, size_t size)
{
    int fd = memfd_create("blocks", MFD_CLOEXEC), copy = dup(fd);
    BGZF *made = bgzf_dopen(copy, "w0");
    for (size_t at = 0; made && at < n; at += size) {
        size_t some = n - at < size ? n - at : size;
        if (bgzf_write(made, data + at, some) != (ssize_t)some || bgzf_flush(made) != 0)
            abort();
    }
    if (!made || bgzf_close(made) != 0 || lseek(fd, 0, SEEK_SET) != 0)
        abort();
    return fd;
}

static void check(const uint8_t *data, size_t n)
{
    char *back = malloc(n + 1);
    BGZF *made = bgzf_open(data_path, "r");
    if (!made || bgzf_read(made, back, n + 1) != (ssize_t)n || memcmp(back, data, n) != 0 || bgzf_close(made) != 0)
        abort();
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 2)
        return 0;
    if (!data_path[0]) {
        hts_set_log_level(HTS_LOG_OFF);
        snprintf(data_path, sizeof data_path, "/dev/shm/pack-%d.bam", (int)getpid());
        snprintf(table_path, sizeof table_path, "/dev/shm/pack-%d.table", (int)getpid());
        failure_handler = on_failure;
    }
    static uint8_t whole[1 << 20];
    size_t head = sizeof short_ones, all = head + n - 1;
    if (all > sizeof whole)
        return 0;
    memcpy(whole, data[0] & 1 ? long_ones : short_ones, head);
    memcpy(whole + head, data + 1, n - 1);
    int source = blocks_of(whole, all, 16 + (size_t)data[0] * 16);
    if (!setjmp(refused)) {
        pack_run(&pack, source);
        check(whole, all);
    }
    pack_forget();
    failure_forget();
    return 0;
}
