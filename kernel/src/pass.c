/* See pass.h. */
#define _GNU_SOURCE
#include "pass.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "density.h"
#include "source_limits.h"

/* The program and its libraries. */
#define PROGRAM_MEMORY (6 * MIB)
/* htslib's index: for each 16 kb window that holds records a hash entry and a list of chunks (measured: 60 to 110),
 * for every window up to the last an offset in an array that doubles, for each sequence the tables themselves. */
enum { INDEX_WINDOW = 112, INDEX_LINEAR = 16, INDEX_CONTIG = 256 };
/* Below this there is no use in going on: runs would be so short that merging them takes all day. */
#define LEAST_LEFT (1 * MIB)

enum { NO_CONTIG = UINT32_MAX };

/* What other programs know of the source, whose text has no place for it. */
static void declare_contigs(struct reader *r, const char *path)
{
    FILE *from = fopen(path, "re");
    if (!from)
        fail_io("opening the list of sequences");
    char *line = NULL;
    size_t room = 0;
    for (ssize_t n; (n = getline(&line, &room, from)) > 0;) {
        const char *tab = memrchr(line, '\t', (size_t)n);
        if (tab)
            declare(r, line, (size_t)(tab - line), true, strtoull(tab + 1, NULL, 10), false);
    }
    bool good = !ferror(from);
    free(line);
    fclose(from);
    if (!good)
        fail_io("reading the list of sequences");
}

void pass_start(struct pass *p, const struct options *options, int source)
{
    memset(p, 0, sizeof *p);
    p->options = options;
    p->again = -1;
    p->phase = "read";
    p->sorted = true;
    p->last_contig = NO_CONTIG;
    p->progress.fd = options->progress_fd;
    contigs_start(&p->contigs);
    reader_start(&p->reader, options->output.format, &p->contigs);
    p->reader.skip_bad_lines = options->skip_bad_lines;
    if (options->contigs)
        declare_contigs(&p->reader, options->contigs);
    p->input = input_new(source, (struct decode_limits){MAX_BYTES, MAX_RATIO});
    lines_start(&p->lines, p->input, MAX_LINE);
}

void pass_free(struct pass *p)
{
    if (p->output)
        output_drop(p->output);
    if (p->input)
        input_free(p->input);
    if (p->again >= 0)
        close(p->again);
    lines_free(&p->lines);
    contigs_free(&p->contigs);
    reader_free(&p->reader);
    free(p->header.bytes);
    memset(p, 0, sizeof *p);
    p->again = -1;
}

bool pass_breaks_order(const struct pass *p, const struct record *r)
{
    if (r->contig == p->last_contig)
        return r->start < p->last_start;
    return p->contigs.all[r->contig].records > 0; /* a second block */
}

void pass_count(struct pass *p, const struct record *r, int64_t to)
{
    contigs_count_record(&p->contigs, r->contig, (uint32_t)to);
    p->last_contig = r->contig;
    p->last_start = r->start;
    p->records++;
    p->record_bytes += r->n + 1;
    if (r->end > p->max_end)
        p->max_end = r->end;
}

void pass_forget_records(struct pass *p)
{
    p->records = p->record_bytes = p->written = 0;
    p->last_contig = NO_CONTIG;
    contigs_forget_records(&p->contigs);
}

static uint64_t index_memory(const struct pass *p)
{
    uint64_t windows = p->contigs.windows * 8 / 7; /* and the larger bins above them */
    return (windows < p->records ? windows : p->records) * INDEX_WINDOW + p->contigs.windows * INDEX_LINEAR +
           p->contigs.seen_count * INDEX_CONTIG;
}

uint64_t pass_memory_left(const struct pass *p, uint64_t others)
{
    const struct output_plan *output = &p->options->output;
    uint64_t taken = PROGRAM_MEMORY + INPUT_MEMORY + blockwriter_memory(output->threads, output->memory) +
                     p->lines.carry_size + decoder_memory(input_decoder(p->input)) + reader_memory(&p->reader) +
                     p->contigs.memory + index_memory(p) + others;
    if (output->density)
        taken += density_memory(p->records, p->max_end, p->contigs.seen_count);
    if (taken + LEAST_LEFT > p->options->memory)
        fail(EXIT_MEMORY, OUT_OF_MEMORY, "ran out of memory: it needs more than the %llu MB it was given",
             (unsigned long long)(p->options->memory / MIB));
    return p->options->memory - taken;
}

void pass_refuse_cut_line(const struct pass *p)
{
    if (p->lines.open_end && decoder_lacks_end_marker(input_decoder(p->input)))
        fail(EXIT_TRUNCATED, SOURCE_INVALID, "truncated: the end marker is missing and the last line is cut");
}

void pass_tell(struct pass *p, const char *phase, bool now)
{
    p->phase = phase;
    if (!progress_due(&p->progress) && !now)
        return;
    const struct decoder *source = p->input ? input_decoder(p->input) : NULL;
    progress_tell(&p->progress, &(struct progress_state){
                                    .phase = phase,
                                    .in = source ? decoder_taken(source) : 0,
                                    .in_total = source ? decoder_size(source) : 0,
                                    .text = p->record_bytes,
                                    .written = p->written,
                                    .out = p->output ? output_bytes(p->output) : 0,
                                });
}

void pass_done(struct pass *p)
{
    for (size_t i = 0; i < p->header.n; i++)
        p->header_lines += p->header.bytes[i] == '\n';
    pass_tell(p, "done", true);
}
