/* See ingest.h. */
#define _GNU_SOURCE
#include "ingest.h"

#include "density.h"
#include "keep.h"
#include "source_limits.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Text in order before the bet is made: disorder mostly shows in the first lines. Tests make it small. */
#ifndef STREAM_AFTER
#define STREAM_AFTER (16 * MIB)
#endif
/* The program and its libraries. */
#define PROGRAM_MEMORY (6 * MIB)
/* htslib's index: for each 16 kb window that holds records a hash entry and a list of chunks (measured: 60 to 110),
 * for every window up to the last an offset in an array that doubles, for each sequence the tables themselves. */
enum { INDEX_WINDOW = 112, INDEX_LINEAR = 16, INDEX_CONTIG = 256 };
/* Below this there is no use in going on: runs would be so short that merging them takes all day. */
#define LEAST_STORE (1 * MIB)

enum { NO_CONTIG = UINT32_MAX };

static void take(struct ingest *g, const struct record *record);

void ingest_free(struct ingest *g)
{
    if (g->input)
        input_free(g->input);
    if (g->again >= 0)
        close(g->again);
    store_free(&g->store);
    runs_free(&g->runs);
    runs_free(&g->journal);
    lines_free(&g->lines);
    contigs_free(&g->contigs);
    reader_free(&g->reader);
    free(g->header.bytes);
    free(g->order);
}

void ingest_start(struct ingest *g, const struct options *options, int source)
{
    memset(g, 0, sizeof *g);
    g->options = options;
    g->again = -1;
    g->phase = "read";
    g->sorted = true;
    g->may_stream = output_can_return(&options->output);
    g->last_contig = NO_CONTIG;
    g->progress.fd = options->progress_fd;
    contigs_start(&g->contigs);
    reader_start(&g->reader, options->output.format, &g->contigs);
    /* A single record always fits, whatever the budget says at that moment. */
    store_start(&g->store, options->memory + MAX_LINE + MIB);
    runs_start(&g->runs, options->work);
    runs_start(&g->journal, options->work);
    g->input = input_new(source, (struct decode_limits){MAX_BYTES, MAX_RATIO});
    lines_start(&g->lines, g->input, MAX_LINE);
}

/* --- what is left of the budget ------------------------------------------------------------------------------ */

static uint64_t index_memory(const struct ingest *g)
{
    uint64_t windows = g->contigs.windows * 8 / 7; /* and the larger bins above them */
    return (windows < g->records ? windows : g->records) * INDEX_WINDOW + g->contigs.windows * INDEX_LINEAR +
           g->contigs.seen_count * INDEX_CONTIG;
}

uint64_t ingest_room(const struct ingest *g)
{
    const struct output_plan *output = &g->options->output;
    uint64_t taken = PROGRAM_MEMORY + INPUT_MEMORY + blockwriter_memory(output->threads, output->memory) + RUN_BUFFER +
                     g->lines.carry_size + decoder_memory(input_decoder(g->input)) + reader_memory(&g->reader) +
                     g->contigs.memory + g->store.tables + index_memory(g);
    if (g->options->output.density)
        taken += density_memory(g->records, g->max_end, g->contigs.seen_count);
    if (taken + LEAST_STORE > g->options->memory)
        fail(EXIT_MEMORY, OUT_OF_MEMORY, "ran out of memory: it needs more than the %llu MB it was given",
             (unsigned long long)(g->options->memory / MIB));
#ifdef ROOM
    return ROOM; /* tests: spilling within a few lines */
#else
    return g->options->memory - taken;
#endif
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

void ingest_tell(struct ingest *g, const char *phase)
{
    tell(g, phase, false);
}

/* --- giving records out -------------------------------------------------------------------------------------- */

static void given(struct ingest *g, struct head head)
{
    output_record(g->output, g->contigs.all[head.contig].place, head.order >> 1, head.end);
    g->written += head.n;
    if (++g->ticks % 4096 == 0)
        tell(g, g->phase, false);
}

static void give_stored(void *to, struct head head, const char *text)
{
    struct ingest *g = to;
    output_text(g->output, text, head.n);
    given(g, head);
}

static void give_read(void *to, struct cursor *cursor)
{
    struct ingest *g = to;
    const char *piece;
    for (size_t n; (n = cursor_text(cursor, &piece));)
        output_text(g->output, piece, n);
    given(g, cursor->head);
}

static void give_in_order(struct ingest *g)
{
    store_each(&g->store, g->contigs.seen, g->contigs.seen_count, AS_THEY_CAME, give_stored, g);
    store_empty(&g->store);
}

static void give_journal(struct ingest *g)
{
    char *buffer = grow(NULL, RUN_BUFFER);
    struct cursor cursor;
    cursor_start(&cursor, &g->journal, &g->journal.all[0], buffer, RUN_BUFFER);
    while (cursor_next(&cursor))
        give_read(g, &cursor);
    free(buffer);
}

static void start_output(struct ingest *g)
{
    g->header.n = 0;
    reader_finish(&g->reader, g->records > 0, false, &g->header);
    g->output = output_start(&g->options->output, g->csi, &g->header);
}

/* --- making room --------------------------------------------------------------------------------------------- */

static void add_to_run(void *to, struct head head, const char *text)
{
    run_add(to, &head, sizeof head);
    run_add(to, text, head.n);
}

static void spill(struct ingest *g, uint64_t age)
{
    uint32_t *order = contigs_by_name(&g->contigs);
    uint64_t before = g->runs.end;
    run_begin(&g->runs, age);
    store_each(&g->store, order, g->contigs.seen_count, BY_START, add_to_run, &g->runs);
    run_end(&g->runs);
    free(order);
    g->spills++;
    g->spilled_bytes += g->runs.end - before;
    store_empty(&g->store);
}

/* The records in memory go to the end of the journal, which is one run. */
static void append_journal(struct ingest *g)
{
    uint64_t before = g->journal.end;
    run_begin(&g->journal, 0);
    store_each(&g->store, g->contigs.seen, g->contigs.seen_count, AS_THEY_CAME, add_to_run, &g->journal);
    run_end(&g->journal);
    g->journal.all[0].to = g->journal.end;
    g->journal.count = 1;
    g->spills++;
    g->spilled_bytes += g->journal.end - before;
    store_empty(&g->store);
}

static void start_streaming(struct ingest *g)
{
    free(contigs_by_appearance(&g->contigs));
    start_output(g);
    g->reader.header_grew = false;
    g->streaming = true;
    give_in_order(g);
}

/* A bet with little hope is not made: the header, or what comes first, is known when all is read. */
static bool may_stream(const struct ingest *g)
{
    return g->may_stream && !reader_will_add(&g->reader);
}

static void make_room(struct ingest *g)
{
    if (!g->sorted)
        spill(g, g->next_age++);
    else if (may_stream(g))
        start_streaming(g);
    else
        append_journal(g);
}

/* --- when the order breaks ----------------------------------------------------------------------------------- */

static bool full(struct ingest *g, struct head head)
{
    enum { FOR_RECORDS = 64 };
    if (g->records >= g->room_until || g->contigs.windows != g->room_windows) {
        g->room = ingest_room(g);
        g->room_until = g->records + FOR_RECORDS;
        g->room_windows = g->contigs.windows;
    }
    return g->store.count && store_need(&g->store, head) > g->room;
}

/* The journal's records become sorted runs. They are older than what is in memory now. */
static void sort_journal(struct ingest *g)
{
    enum { YOUNGER = 1 << 30 };
    if (g->store.count)
        spill(g, YOUNGER);
    char *buffer = grow(NULL, RUN_BUFFER);
    struct cursor cursor;
    struct text text = {0};
    const char *piece;
    cursor_start(&cursor, &g->journal, &g->journal.all[0], buffer, RUN_BUFFER);
    while (cursor_next(&cursor)) {
        text.n = 0;
        for (size_t n; (n = cursor_text(&cursor, &piece));)
            text_add(&text, piece, n);
        struct head head = cursor.head;
        head.n--; /* the newline, which the store adds */
        if (full(g, head))
            spill(g, g->next_age++);
        store_add(&g->store, head, text.bytes);
    }
    if (g->store.count)
        spill(g, g->next_age++);
    g->next_age = YOUNGER + 1;
    free(text.bytes);
    free(buffer);
    runs_free(&g->journal);
    g->journal.folder = g->options->work;
}

/* The bet is lost: read the output back as the source, from memory's point of view for the first time. */
static void restart(struct ingest *g)
{
    uint64_t records = g->records;
    int fd = output_return(g->output);
    g->output = NULL;
    g->streaming = g->may_stream = false;
    g->restarted = true;
    g->phase = "read";
    g->records = g->record_bytes = g->written = g->room_until = 0;
    g->last_contig = NO_CONTIG;
    contigs_forget_records(&g->contigs);

    struct input *input = input_new(fd, (struct decode_limits){UINT64_MAX, UINT64_MAX});
    struct lines lines;
    struct record record;
    const char *line;
    size_t n;
    lines_start(&lines, input, SIZE_MAX);
    for (size_t left = g->header.n; left && lines_next(&lines, &line, &n);)
        left -= n + 1;
    while (lines_next(&lines, &line, &n))
        if (reader_written_record(&g->reader, lines.number, line, n, &record))
            take(g, &record);
    if (g->records != records)
        fail(EXIT_IO, TOOL_FAILED, "the output did not read back as it was written");
    lines_free(&lines);
    input_free(input);
}

bool ingest_breaks_order(const struct ingest *g, const struct record *r)
{
    if (r->contig == g->last_contig)
        return r->start < g->last_start;
    return g->contigs.all[r->contig].records > 0; /* a second block */
}

/* --- reading ------------------------------------------------------------------------------------------------- */

void ingest_note(struct ingest *g, const struct record *r, int64_t to)
{
    contigs_note(&g->contigs, r->contig, (uint32_t)to);
    g->last_contig = r->contig;
    g->last_start = r->start;
    g->records++;
    g->record_bytes += r->n + 1;
    if (r->end > g->max_end)
        g->max_end = r->end;
}

static void take(struct ingest *g, const struct record *r)
{
    int64_t from, to;
    format_interval(g->options->output.format, r->start, r->end, &from, &to);
    bool disorder = g->sorted && ingest_breaks_order(g, r);
    bool beyond = !g->csi && to > TBI_END;
    g->sorted = g->sorted && !disorder;
    g->csi = g->csi || beyond;
    if (g->streaming && (disorder || beyond || g->reader.header_grew))
        restart(g);
    else if (disorder && g->journal.count)
        sort_journal(g);

    ingest_note(g, r, to);
    struct head head = {r->contig, r->start << 1 | !r->added, r->end, (uint32_t)r->n};
    if (!g->streaming && full(g, head))
        make_room(g);
    if (!g->streaming) {
        store_add(&g->store, head, r->text);
        if (g->sorted && g->store.used > STREAM_AFTER && may_stream(g))
            start_streaming(g);
        return;
    }
    /* Places by appearance: a new contig is the last one. The index grows with each. */
    if (g->contigs.all[r->contig].records == 1 || g->records % 4096 == 0)
        (void)ingest_room(g);
    g->contigs.all[r->contig].place = g->contigs.seen_count - 1;
    output_text(g->output, r->text, r->n);
    output_text(g->output, "\n", 1);
    head.n++;
    given(g, head);
}

static void read_all(struct ingest *g)
{
    struct record record;
    const char *line;
    size_t n;
    const struct decoder *source = input_decoder(g->input);
    for (uint64_t seen = 0; lines_next(&g->lines, &line, &n); seen++) {
        /* Judged before the line is: half a line is mostly an invalid one. */
        if (g->lines.open_end && decoder_lacks_end_marker(source))
            fail(EXIT_TRUNCATED, SOURCE_INVALID, "truncated: the end marker is missing and the last line is cut");
        if (reader_line(&g->reader, g->lines.number, line, n, &record))
            take(g, &record);
        else if (g->streaming && g->reader.header_grew)
            restart(g);
        if (seen % 4096 == 0)
            tell(g, "read", false);
    }
    reader_check(&g->reader, g->records > 0);
    if (!g->records && g->options->refuse_empty)
        fail(EXIT_INVALID, SOURCE_INVALID, "no records: the file has %s",
             reader_has_header(&g->reader) ? "only a header" : "no content");
}

/* What the source lacks: then the result is in no order that the source had. */
static void add_missing(struct ingest *g)
{
    struct record record;
    for (uint32_t next = 0; reader_added(&g->reader, &next, &record);) {
        g->sorted = false;
        if (g->streaming)
            restart(g);
        else if (g->journal.count)
            sort_journal(g);
        take(g, &record);
    }
}

static void count_header_lines(struct ingest *g)
{
    for (size_t i = 0; i < g->header.n; i++)
        g->header_lines += g->header.bytes[i] == '\n';
}

void ingest_run(struct ingest *g)
{
    if (g->options->keep && keep_source(g)) {
        g->kept = true;
        count_header_lines(g);
        tell(g, "done", true);
        return;
    }
    read_all(g);
    add_missing(g);
    if (!g->streaming && g->runs.count && g->store.count)
        spill(g, g->next_age++);
    g->order = g->sorted ? contigs_by_appearance(&g->contigs) : contigs_by_name(&g->contigs);
    if (!g->streaming) {
        start_output(g);
        tell(g, g->runs.count ? "merge" : "write", true);
        if (g->runs.count) {
            merge(&g->runs, &g->contigs, ingest_room(g) / 2, give_read, g);
        } else if (g->sorted) {
            if (g->journal.count)
                give_journal(g);
            give_in_order(g);
        } else {
            store_each(&g->store, g->order, g->contigs.seen_count, BY_START, give_stored, g);
        }
    }
    /* Whatever way was taken: what was read was written. */
    if (g->written != g->record_bytes)
        fail(EXIT_IO, TOOL_FAILED, "lost records: this is a mistake in the program");
    tell(g, g->phase, true);
    g->bytes_out = output_finish(g->output, &g->contigs, g->order);
    g->output = NULL;
    count_header_lines(g);
    tell(g, "done", true);
}
