/* See ingest.h. */
#define _GNU_SOURCE
#include "ingest.h"

#include "source_limits.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Bytes of records in order before they are streamed: disorder mostly shows in the first lines. Tests make it small. */
#ifndef STREAM_AFTER
#define STREAM_AFTER (16 * MIB)
#endif

/* In the end of a record's key, which takes 31 bits: format.h, ends_elsewhere. */
#define ENDS_ELSEWHERE ((uint32_t)1 << 31)

static void add_record(struct ingest *g, const struct record *record);

void ingest_start(struct ingest *g, struct pass *p)
{
    memset(g, 0, sizeof *g);
    g->pass = p;
    g->may_stream = output_can_be_read_back(&p->options->output);
    /* A single record always fits, whatever the budget says at that moment. */
    sort_buffer_start(&g->buffer, p->options->memory + MAX_LINE + MIB);
    runs_start(&g->runs, p->options->work);
    runs_start(&g->journal, p->options->work);
}

void ingest_free(struct ingest *g)
{
    if (!g->pass)
        return;
    sort_buffer_free(&g->buffer);
    runs_free(&g->runs);
    runs_free(&g->journal);
    free(g->order);
    g->pass = NULL;
}

/* What records may fill. */
static uint64_t room_for_records(const struct ingest *g)
{
    uint64_t left = pass_memory_left(g->pass, RUN_BUFFER + g->buffer.tables);
#ifdef ROOM
    left = ROOM; /* tests: spilling within a few lines */
#endif
    return left;
}

/* --- writing records -------------------------------------------------------------------------------------- */

static void record_written(struct ingest *g, struct record_key key)
{
    struct pass *p = g->pass;
    output_record(p->output, p->contigs.all[key.contig].place, key.order >> 1, key.end & ~ENDS_ELSEWHERE,
                  key.end & ENDS_ELSEWHERE);
    p->written += key.n;
    if (++g->ticks % 4096 == 0)
        pass_tell(p, p->phase, false);
}

static void write_from_buffer(void *to, struct record_key key, const char *text)
{
    struct ingest *g = to;
    struct pass *p = g->pass;
    output_text(p->output, text, key.n);
    record_written(g, key);
}

static void write_from_run(void *to, struct cursor *cursor)
{
    struct ingest *g = to;
    struct pass *p = g->pass;
    const char *piece;
    for (size_t n; (n = cursor_text(cursor, &piece));)
        output_text(p->output, piece, n);
    record_written(g, cursor->key);
}

static void write_buffer_in_order(struct ingest *g)
{
    struct pass *p = g->pass;
    sort_buffer_each(&g->buffer, p->contigs.seen, p->contigs.seen_count, AS_THEY_CAME, write_from_buffer, g);
    sort_buffer_empty(&g->buffer);
}

static void write_journal(struct ingest *g)
{
    char *buffer = xrealloc(NULL, RUN_BUFFER);
    struct cursor cursor;
    cursor_start(&cursor, &g->journal, &g->journal.all[0], buffer, RUN_BUFFER);
    while (cursor_next(&cursor))
        write_from_run(g, &cursor);
    free(buffer);
}

static void start_output(struct ingest *g)
{
    struct pass *p = g->pass;
    p->header.n = 0;
    reader_finish(&p->reader, p->records > 0, false, &p->header);
    p->output = output_start(&p->options->output, p->csi, &p->header);
}

/* --- making room --------------------------------------------------------------------------------------------- */

static void add_to_run(void *to, struct record_key key, const char *text)
{
    run_add(to, &key, sizeof key);
    run_add(to, text, key.n);
}

static void spill(struct ingest *g, uint64_t age)
{
    struct pass *p = g->pass;
    uint32_t *order = contigs_by_name(&p->contigs);
    uint64_t before = g->runs.end;
    run_begin(&g->runs, age);
    sort_buffer_each(&g->buffer, order, p->contigs.seen_count, BY_START, add_to_run, &g->runs);
    run_end(&g->runs);
    free(order);
    p->spills++;
    p->spilled_bytes += g->runs.end - before;
    sort_buffer_empty(&g->buffer);
}

/* The records in memory go to the end of the journal, which is one run. */
static void append_journal(struct ingest *g)
{
    struct pass *p = g->pass;
    uint64_t before = g->journal.end;
    run_begin(&g->journal, 0);
    sort_buffer_each(&g->buffer, p->contigs.seen, p->contigs.seen_count, AS_THEY_CAME, add_to_run, &g->journal);
    run_end(&g->journal);
    g->journal.all[0].to = g->journal.end;
    g->journal.count = 1;
    p->spills++;
    p->spilled_bytes += g->journal.end - before;
    sort_buffer_empty(&g->buffer);
}

static void start_streaming(struct ingest *g)
{
    struct pass *p = g->pass;
    free(contigs_by_appearance(&p->contigs));
    start_output(g);
    p->reader.header_grew = false;
    g->streaming = true;
    write_buffer_in_order(g);
}

/* Not when lines will have to be added: the header, or what comes first, is known when all is read. */
static bool may_stream(const struct ingest *g)
{
    const struct pass *p = g->pass;
    return g->may_stream && !reader_will_add(&p->reader);
}

static void make_room(struct ingest *g)
{
    struct pass *p = g->pass;
    if (!p->sorted)
        spill(g, g->next_age++);
    else if (may_stream(g))
        start_streaming(g);
    else
        append_journal(g);
}

/* --- when the order breaks ----------------------------------------------------------------------------------- */

static bool is_full(struct ingest *g, struct record_key key)
{
    struct pass *p = g->pass;
    enum { FOR_RECORDS = 64 };
    if (p->records >= g->room_until || p->contigs.windows != g->room_windows) {
        g->room = room_for_records(g);
        g->room_until = p->records + FOR_RECORDS;
        g->room_windows = p->contigs.windows;
    }
    return g->buffer.count && sort_buffer_need(&g->buffer, key) > g->room;
}

/* The journal's records become sorted runs. They are older than what is in memory now. */
static void sort_journal(struct ingest *g)
{
    struct pass *p = g->pass;
    enum { YOUNGER = 1 << 30 };
    if (g->buffer.count)
        spill(g, YOUNGER);
    char *buffer = xrealloc(NULL, RUN_BUFFER);
    struct cursor cursor;
    struct text text = {0};
    const char *piece;
    cursor_start(&cursor, &g->journal, &g->journal.all[0], buffer, RUN_BUFFER);
    while (cursor_next(&cursor)) {
        text.n = 0;
        for (size_t n; (n = cursor_text(&cursor, &piece));)
            text_add(&text, piece, n);
        struct record_key key = cursor.key;
        key.n--; /* the newline, which the store adds */
        if (is_full(g, key))
            spill(g, g->next_age++);
        sort_buffer_add(&g->buffer, key, text.bytes);
    }
    if (g->buffer.count)
        spill(g, g->next_age++);
    g->next_age = YOUNGER + 1;
    free(text.bytes);
    free(buffer);
    runs_free(&g->journal);
    g->journal.folder = p->options->work;
}

/* Streaming was wrong: read the output back as if it were the source. */
static void restart(struct ingest *g)
{
    struct pass *p = g->pass;
    uint64_t records = p->records;
    int fd = output_read_back(p->output);
    p->output = NULL;
    g->streaming = g->may_stream = false;
    p->restarted = true;
    p->phase = "read";
    g->room_until = 0;
    pass_forget_records(p);

    struct input *input = input_new(fd, (struct decode_limits){UINT64_MAX, UINT64_MAX});
    struct lines lines;
    struct record record;
    const char *line;
    size_t n;
    lines_start(&lines, input, SIZE_MAX);
    for (size_t left = p->header.n; left && lines_next(&lines, &line, &n);)
        left -= n + 1;
    while (lines_next(&lines, &line, &n))
        if (reader_written_record(&p->reader, lines.number, line, n, &record))
            add_record(g, &record);
    if (p->records != records)
        fail(EXIT_IO, TOOL_FAILED, "the output did not read back as it was written");
    lines_free(&lines);
    input_free(input);
}

/* --- reading ------------------------------------------------------------------------------------------------- */

static void add_record(struct ingest *g, const struct record *r)
{
    struct pass *p = g->pass;
    int64_t from, to;
    format_interval(p->options->output.format, r->start, r->end, &from, &to);
    bool disorder = p->sorted && pass_breaks_order(p, r);
    bool beyond = !p->csi && to > TBI_END;
    p->sorted = p->sorted && !disorder;
    p->csi = p->csi || beyond;
    if (g->streaming && (disorder || beyond || p->reader.header_grew))
        restart(g);
    else if (disorder && g->journal.count)
        sort_journal(g);

    pass_count(p, r, to);
    uint32_t end = r->end | (r->ends_elsewhere ? ENDS_ELSEWHERE : 0);
    struct record_key key = {r->contig, r->start << 1 | !r->first, end, (uint32_t)r->n};
    if (!g->streaming && is_full(g, key))
        make_room(g);
    if (!g->streaming) {
        sort_buffer_add(&g->buffer, key, r->text);
        if (p->sorted && g->buffer.used > STREAM_AFTER && may_stream(g))
            start_streaming(g);
        return;
    }
    /* Places by appearance: a new contig is the last one. The index grows with each. */
    if (p->contigs.all[r->contig].records == 1 || p->records % 4096 == 0)
        (void)room_for_records(g);
    p->contigs.all[r->contig].place = p->contigs.seen_count - 1;
    output_text(p->output, r->text, r->n);
    output_text(p->output, "\n", 1);
    key.n++;
    record_written(g, key);
}

static void read_all(struct ingest *g)
{
    struct pass *p = g->pass;
    struct record record;
    const char *line;
    size_t n;
    for (uint64_t seen = 0; lines_next(&p->lines, &line, &n); seen++) {
        pass_refuse_cut_line(p);
        if (reader_line(&p->reader, p->lines.number, line, n, &record))
            add_record(g, &record);
        else if (g->streaming && p->reader.header_grew)
            restart(g);
        if (seen % 4096 == 0)
            pass_tell(p, "read", false);
    }
    reader_check(&p->reader, p->records > 0);
    if (!p->records && p->reader.bad.count)
        fail(EXIT_INVALID, SOURCE_INVALID, "%s", p->reader.bad.first);
    if (!p->records && p->options->refuse_empty && !reader_has_header(&p->reader))
        fail(EXIT_INVALID, SOURCE_INVALID, "no records: the file has no content");
}

/* What the source lacks: then the result is in no order that the source had. */
static void add_missing(struct ingest *g)
{
    struct pass *p = g->pass;
    struct record record;
    for (uint32_t next = 0; reader_added(&p->reader, &next, &record);) {
        p->sorted = false;
        if (g->streaming)
            restart(g);
        else if (g->journal.count)
            sort_journal(g);
        add_record(g, &record);
    }
}

void ingest_run(struct ingest *g)
{
    struct pass *p = g->pass;
    read_all(g);
    add_missing(g);
    if (!g->streaming && g->runs.count && g->buffer.count)
        spill(g, g->next_age++);
    g->order = p->sorted ? contigs_by_appearance(&p->contigs) : contigs_by_name(&p->contigs);
    if (!g->streaming) {
        start_output(g);
        pass_tell(p, g->runs.count ? "merge" : "write", true);
        if (g->runs.count) {
            merge(&g->runs, &p->contigs, room_for_records(g) / 2, write_from_run, g);
        } else if (p->sorted) {
            if (g->journal.count)
                write_journal(g);
            write_buffer_in_order(g);
        } else {
            sort_buffer_each(&g->buffer, g->order, p->contigs.seen_count, BY_START, write_from_buffer, g);
        }
    }
    /* Whatever way was taken: what was read was written. */
    if (p->written != p->record_bytes)
        fail(EXIT_IO, TOOL_FAILED, "lost records: this is a mistake in the program");
    pass_tell(p, p->phase, true);
    p->bytes_out = output_finish(p->output, &p->contigs, g->order);
    p->output = NULL;
    pass_done(p);
}
