/* gooseherd-intervals: positions on a genome, one per line, made ready for range requests. See intervals.h and --help;
 * `gooseherd-intervals reads` and `pack` are for BAM: reads.h, pack.h. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <htslib/hts_log.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bam/pack.h"
#include "bam/reads.h"
#include "intervals.h"
#include "report.h"

static struct options options;
static struct intervals intervals;

static void on_failure(const struct failure *failure)
{
    dprintf(STDERR_FILENO, "gooseherd-intervals: %s\n", failure->detail);
    output_remove(&options.output);
    if (options.report)
        report_write(options.report, &intervals.pass, failure);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "reads") == 0)
        return reads_main(argc - 1, argv + 1);
    memory_watch();
    /* A full pipe's end and a file-size limit are errors to be named, not deaths. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    if (argc > 1 && strcmp(argv[1], "pack") == 0)
        return pack_main(argc - 1, argv + 1);
    report_reserve();
    options_read(&options, argc, argv);
    failure_handler = on_failure;
    hts_set_log_level(HTS_LOG_OFF);
    int source = strcmp(options.source, "-") == 0 ? STDIN_FILENO : open(options.source, O_RDONLY | O_CLOEXEC);
    if (source < 0)
        fail_io("opening the source");
    intervals_run(&intervals, &options, source);
    if (options.report && !report_write(options.report, &intervals.pass, NULL)) {
        output_remove(&options.output);
        return EXIT_IO;
    }
    return EXIT_DONE;
}
