/* See ingest.h. */
#define _GNU_SOURCE
#include "ingest.h"

#include <stdlib.h>
#include <string.h>

#define MIB ((uint64_t)1 << 20)

/* Text in order before the bet is made: disorder mostly shows in the first lines. */
#define STREAM_AFTER (16 * MIB)
/* The program and its libraries. */
#define PROGRAM_MEMORY (6 * MIB)
/* htslib's index by 16 kb window that holds records: a hash entry and a list of chunks. Measured: 60 to 110. */
enum { INDEX_WINDOW = 112, INDEX_LINEAR = 8 };
/* Below this there is no use in going on: runs would be so short that merging them takes all day. */
#define LEAST_STORE (1 * MIB)

enum { NO_CONTIG = UINT32_MAX };

static void take(struct ingest *g, const struct record *record);

void ingest_start(struct ingest *g, const struct options *options, int source)
{
    memset(g, 0, sizeof *g);
    g->options = options;
    g->phase = "read";
    g->sorted = true;
    g->may_stream = output_can_return(&options->output);
    g->last_contig = NO_CONTIG;
    g->progress.fd = options->progress_fd;
    contigs_start(&g->contigs, options->max_contigs);
    reader_start(&g->reader, options->output.format, &g->contigs, options->max_header);
    /* A single record always fits, whatever the budget says at that moment. */
    store_start(&g->store, options->memory + options->max_line + MIB);
    runs_start(&g->runs, options->work);
    runs_start(&g->journal, options->work);
    g->input = input_new(source, (struct decode_limits){options->max_bytes, options->max_ratio});
    lines_start(&g->lines, g->input, options->max_line);
}

/* --- what is left of the budget ------------------------------------------------------------------------------ */

static uint64_t index_memory(const struct ingest *g)
{
    uint64_t windows = g->contigs.windows * 8 / 7; /* and the larger bins above them */
    return (windows < g->records ? windows : g->records) * INDEX_WINDOW + g->contigs.windows * INDEX_LINEAR +
           g->contigs.seen_count * 64;
}

static uint64_t room(const struct ingest *g)
{
    uint64_t taken = PROGRAM_MEMORY + INPUT_MEMORY + OUTPUT_MEMORY + RUN_BUFFER +
                     (uint64_t)g->options->output.threads * OUTPUT_THREAD_MEMORY + g->lines.carry_size +
                     g->reader.line.room + 2 * g->reader.header.room + g->contigs.memory + index_memory(g);
    if (taken + LEAST_STORE > g->options->memory)
        fail(EXIT_MEMORY, OUT_OF_MEMORY, "needs more memory than the %llu MB it was given",
             (unsigned long long)(g->options->memory / MIB));
    return g->options->memory - taken;
}

/* --- progress ------------------------------------------------------------------------------------------------ */

static void tell(struct ingest *g, const char *phase, bool now)
{
    g->phase = phase;
    if (!progress_due(&g->progress) && !now)
        return;
    const struct decoder *source = g->input ? input_decoder(g->input) : NULL;
    progress_tell(&g->progress, &(struct progress_state){
                                    .phase = phase,
                                    .in = source ? decoder_taken(source) : 0,
                                    .in_total = source ? decoder_size(source) : 0,
                                    .text = g->record_bytes,
                                    .written = g->written,
                                    .out = g->output ? output_bytes(g->output) : 0,
                                });
}

/* --- giving records out ---------------------------------------------------------------------------------------- */

static void write_one(struct ingest *g, struct head head, const char *text)
{
    output_text(g->output, text, head.n);
    output_record(g->output, g->contigs.all[head.contig].place, head.start, head.end);
    g->written += head.n;
    if (!((++g->reader.counts[ODDITIES - 1], g->written) & 0))
        tell(g, g->phase, false);
}
