/*
 * A libFuzzer target: the whole pass, in one process, over and over.
 *
 *     make fuzz
 *     build/fuzz/intervals -max_len=4000 -detect_leaks=0 -rss_limit_mb=0 CORPUS
 *
 * The first byte chooses format and options, the rest is the source. A refusal is a fine end; anything the sanitisers
 * see is not, nor an output whose lines are not those that were counted, nor memory kept from one run to the next.
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

#include "intervals.h"
#include "report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static jmp_buf refused;
static char data_path[64], index_path[64];

static void on_failure(const struct failure *failure)
{
    if (strcmp(failure->reason, TOOL_FAILED) == 0 || !failure->detail[0])
        abort();
    longjmp(refused, 1);
}

static void check(const struct pass *p)
{
    if (p->kept)
        return;
    uint64_t lines = 0;
    char block[4096];
    ssize_t got;
    BGZF *made = bgzf_open(data_path, "r");
    while (made && (got = bgzf_read(made, block, sizeof block)) > 0)
        for (ssize_t i = 0; i < got; i++)
            lines += block[i] == '\n';
    if (!made || bgzf_close(made) != 0 || lines != p->records + p->header_lines)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const formats[] = {"bed", "narrowpeak", "gff3", "vcf", "bed", "gtf", "gtf", "vcf"};
    static struct intervals intervals;
    static struct options options;
    if (n == 0)
        return 0;
    if (!data_path[0]) {
        hts_set_log_level(HTS_LOG_OFF);
        snprintf(data_path, sizeof data_path, "/dev/shm/intervals-%d.gz", (int)getpid());
        snprintf(index_path, sizeof index_path, "/dev/shm/intervals-%d.tbi", (int)getpid());
        failure_handler = on_failure;
    }
    options = (struct options){
        .work = "/dev/shm",
        .memory = 64 << 20,
        .progress_fd = -1,
        .refuse_empty = data[0] & 32,
        .keep = data[0] & 128,
        .output = {.data = data_path,
                   .index = index_path,
                   .level = (int)(n & 1),
                   .threads = 2,
                   .format = format_named(formats[data[0] & 7])},
    };
    memset(&intervals, 0, sizeof intervals);
    int source = memfd_create("source", MFD_CLOEXEC);
    if (source < 0 || write(source, data + 1, n - 1) != (ssize_t)n - 1 || lseek(source, 0, SEEK_SET) != 0)
        abort();
    if (!setjmp(refused)) {
        intervals_run(&intervals, &options, source);
        check(&intervals.pass);
        if (!report_write("/dev/null", &intervals.pass, NULL))
            abort();
    }
    intervals_free(&intervals);
    failure_forget();
    return 0;
}
