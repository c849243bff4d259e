/* See reader.h. */
#define _GNU_SOURCE
#include "formats/reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "formats/columns.h"
#include "formats/foreign_lines.h"
#include "formats/numbers.h"
#include "formats/odd_columns.h"
#include "source_limits.h"

const char *const oddity_names[ODDITIES] = {
    "byte_order_mark",   "carriage_returns",      "blank_lines",           "comment_lines",      "display_lines",
    "heading_lines",     "repeated_header_lines", "replaced_header_lines", "added_header_lines", "separator_lines",
    "sequence_lines",    "spaced_lines",          "respelt_coordinates",   "line_comments",      "added_genes",
    "added_transcripts", "respelt_titles",        "joined_columns",        "wide_records",       "bad_lines",
};

void reader_start(struct reader *r, const struct format *format, struct contigs *contigs)
{
    memset(r, 0, sizeof *r);
    r->format = format;
    r->contigs = contigs;
    r->gtf.parents.contigs = contigs;
}

void reader_free(struct reader *r)
{
    free(r->header.bytes);
    free(r->line.bytes);
    free(r->declared);
    vcf_free(&r->vcf);
    gtf_free(&r->gtf);
}

bool bad_line(struct reader *r, uint64_t number, const char *format, ...)
{
    struct failure f = {.code = EXIT_INVALID, .reason = SOURCE_INVALID, .line = number};
    va_list args;
    va_start(args, format);
    int used = snprintf(f.detail, sizeof f.detail, "line %llu: ", (unsigned long long)number);
    vsnprintf(f.detail + used, sizeof f.detail - (size_t)used, format, args);
    va_end(args);
    if (!r->skip_bad_lines)
        fail_with(&f);
    struct bad_lines *bad = &r->bad;
    if (bad->count == MOST_BAD_LINES)
        fail(EXIT_INVALID, SOURCE_INVALID, "more than %d lines are no records, the first of them %.300s",
             MOST_BAD_LINES, bad->first);
    if (!bad->count)
        memcpy(bad->first, f.detail, sizeof bad->first);
    bad->numbers[bad->count++] = number;
    r->counts[BAD_LINES]++;
    return false;
}

void header_add(struct reader *r, uint64_t number, struct text *to, const char *line, size_t n)
{
    if (r->header_bytes + n >= MAX_HEADER) {
        struct failure f = {.code = EXIT_LIMIT, .reason = SOURCE_INVALID, .line = number};
        snprintf(f.detail, sizeof f.detail, "line %llu: the header is longer than %llu bytes",
                 (unsigned long long)number, (unsigned long long)MAX_HEADER);
        fail_with(&f);
    }
    text_add(to, line, n);
    text_add(to, "\n", 1);
    r->header_bytes += n + 1;
}

void declare(struct reader *r, const char *name, size_t n, bool has_length, uint64_t length, bool again)
{
    uint32_t number = contigs_intern(r->contigs, name, n, r->format->title);
    struct contig *contig = &r->contigs->all[number];
    if (contig->declared && !again)
        return;
    contig->has_length = has_length;
    contig->length = length;
    if (contig->declared)
        return;
    contig->declared = true;
    if (r->declared_count == r->declared_room) {
        r->declared_room = r->declared_room ? r->declared_room * 2 : 64;
        r->declared = xrealloc(r->declared, r->declared_room * sizeof *r->declared);
    }
    r->declared[r->declared_count++] = number;
}

/* A position as it should be, and what stands behind it; NULL: judge it with more care. */
static inline const char *quick_number(const char *p, const char *end, uint64_t *value)
{
    const char *from = p;
    uint64_t v = 0;
    if (end - p >= 8)
        p += leading_digits(p, &v);
    for (; p < end && (unsigned char)(*p - '0') < 10; p++)
        v = v * 10 + (uint64_t)(*p - '0');
    *value = v;
    return p == from || p - from > 10 || (*from == '0' && p - from > 1) || v > MAX_COORDINATE ? NULL : p;
}

/*
 * Most lines of most files: on a sequence that was seen before, with nothing odd. False says nothing about a line but that
 * it has to be judged with more care; true says what that would have said.
 */
static inline bool quick_record(struct reader *r, const char *line, size_t n, struct record *record)
{
    const struct format *format = r->format;
    if (!r->begun || r->over || format->end < 0 || format->convert)
        return false;
    const char *p = contigs_find_in_line(r->contigs, line, n), *end = line + n;
    if (!p)
        return false;
    p++;
    for (int column = 1; column < format->start; column++) {
        p = memchr(p, '\t', (size_t)(end - p));
        if (!p)
            return false;
        p++;
    }
    uint64_t from, to;
    p = quick_number(p, end, &from);
    if (!p || p == end || *p != '\t')
        return false;
    p = quick_number(p + 1, end, &to);
    if (!p || (p < end && *p != '\t') || from < format->lowest || from > to)
        return false;
    for (int column = format->end + 1; column < format->columns; column++) {
        p = p < end ? memchr(p, '\t', (size_t)(end - p)) : NULL;
        if (!p)
            return false;
        p++;
    }
    *record =
        (struct record){.text = line, .n = n, .contig = r->contigs->last, .start = (uint32_t)from, .end = (uint32_t)to};
    return true;
}

enum verdict { RECORD, NO_RECORD, BAD };

/* Apart from what most lines go through, whose stack frame stays small. */
__attribute__((noinline)) static enum verdict judge_slowly(struct reader *r, uint64_t number, const char *line,
                                                           size_t n, struct record *record, bool convert)
{
    const struct format *format = r->format;
    uint32_t tabs[MOST_COLUMNS] = {0};
    int found = columns_of(line, n, format->columns, tabs);
    if (format->may_be_spaced && !makes_record(format, line, tabs, found)) {
        int columns = split_at_spaces(r, line, n, found, tabs);
        if (columns) {
            line = r->line.bytes;
            n = r->line.n;
            found = columns;
            r->counts[SPACED_LINES]++;
        }
    }
    if (format->may_have_heading && found > format->start) {
        uint32_t column = tabs[format->start - 1] + 1;
        if (is_heading(line + column, tabs[format->start] - column)) {
            r->counts[HEADING_LINES]++;
            return NO_RECORD;
        }
    }
    bool good = true;
    if (found < format->columns)
        good = bad_line(r, number, "%d columns, but %s has %d or more, split by TAB", found, format->title,
                        format->columns);
    else if (tabs[0] == 0)
        good = bad_line(r, number, "the sequence name is empty");
    else if (line[0] == '#')
        good = bad_line(r, number, "the sequence name starts with #, which would make the record a comment");
    else if (format->judge_columns && convert)
        good = format->judge_columns(r, number, line, n, tabs);
    if (!good)
        return BAD;

    struct coordinate start, end = {0};
    bool elsewhere = false;
    uint32_t from = tabs[format->start - 1] + 1;
    if (!read_coordinate(r, number, line + from, tabs[format->start] - from, format->start, &start))
        return BAD;
    if (format->end >= 0) {
        uint32_t second = tabs[format->end - 1] + 1;
        if (!read_coordinate(r, number, line + second, tabs[format->end] - second, format->end, &end) ||
            (start.value > end.value && !bad_line(r, number, "start %u is after end %u", start.value, end.value)))
            return BAD;
    } else {
        uint64_t value = format->end_of(start.value, line, n, tabs, &elsewhere);
        if (value > MAX_COORDINATE &&
            !bad_line(r, number, "the record ends at %llu, above %u", (unsigned long long)value, MAX_COORDINATE))
            return BAD;
        end.value = (uint32_t)value;
    }
    record->contig = contigs_intern(r->contigs, line, tabs[0], format->title);
    if (format->undeclared && !r->contigs->all[record->contig].declared)
        format->undeclared(r, record->contig);
    record->start = start.value;
    record->end = end.value;
    record->ends_elsewhere = elsewhere;
    r->begun = true;
    if (start.respelt || end.respelt) {
        struct text new = {0};
        text_add(&new, line, from);
        text_add(&new, start.respelt ? start.plain : line + from,
                 start.respelt ? strlen(start.plain) : tabs[format->start] - from);
        uint32_t rest = tabs[format->start];
        if (end.respelt) {
            text_add(&new, line + rest, tabs[format->end - 1] + 1 - rest);
            text_add(&new, end.plain, strlen(end.plain));
            rest = tabs[format->end];
        }
        text_add(&new, line + rest, n - rest);
        free(r->line.bytes);
        r->line = new;
        line = new.bytes;
        n = new.n;
        if (format->convert)
            columns_of(line, n, format->columns, tabs);
    }
    record->text = line;
    record->n = n;
    record->first = format->is_first && format->is_first(line, tabs);
    if (format->convert && convert)
        format->convert(r, number, tabs, record);
    return RECORD;
}

static inline bool judge_record(struct reader *r, uint64_t number, const char *line, size_t n, struct record *record,
                                bool convert)
{
    if (quick_record(r, line, n, record))
        return true;
    static const enum oddity of_a_record[] = {SPACED_LINES, RESPELT_COORDINATES, WIDE_RECORDS};
    enum { OF_A_RECORD = sizeof of_a_record / sizeof *of_a_record };
    uint64_t before[OF_A_RECORD];
    for (int i = 0; i < OF_A_RECORD; i++)
        before[i] = r->counts[of_a_record[i]];
    enum verdict verdict = judge_slowly(r, number, line, n, record, convert);
    for (int i = 0; i < OF_A_RECORD && verdict == BAD; i++)
        r->counts[of_a_record[i]] = before[i];
    return verdict == RECORD;
}

bool reader_line(struct reader *r, uint64_t number, const char *line, size_t n, struct record *record)
{
    if (n && line[n - 1] != '\r' && quick_record(r, line, n, record))
        return true;
    if (number == 1 && starts_with(line, n, "\xef\xbb\xbf")) {
        r->counts[BYTE_ORDER_MARK]++;
        line += 3;
        n -= 3;
    }
    while (n && line[n - 1] == '\r') {
        r->counts[CARRIAGE_RETURNS]++;
        n--;
    }
    if (r->format->fasta && sequence_line(r, number, line, n)) {
        r->counts[SEQUENCE_LINES]++;
        return false;
    }
    if (n == 0 || (is_space(line[0]) && without_trailing_space(line, n) == 0)) {
        r->counts[BLANK_LINES]++;
        return false;
    }
    if (line[0] == '#') {
        r->format->comment(r, number, line, n);
        return false;
    }
    if ((line[0] == 't' || line[0] == 'b') && display_line(r->format, line, n)) {
        r->counts[DISPLAY_LINES]++;
        return false;
    }
    return judge_record(r, number, line, n, record, true);
}

bool reader_written_record(struct reader *r, uint64_t number, const char *line, size_t n, struct record *record)
{
    return judge_record(r, number, line, n, record, false);
}

void reader_check(const struct reader *r, bool any_records)
{
    if (any_records && r->format->check)
        r->format->check(r);
}

void reader_finish(struct reader *r, bool any_records, bool as_found, struct text *header)
{
    r->format->finish(r, any_records, as_found, header);
}

bool reader_added(struct reader *r, uint32_t *next, struct record *record)
{
    return r->format->added && r->format->added(r, next, record);
}

bool reader_will_add(const struct reader *r)
{
    return r->format->will_add && r->format->will_add(r);
}

bool reader_changed(const struct reader *r)
{
    for (int i = 0; i < ODDITIES; i++)
        if (r->counts[i] && i != WIDE_RECORDS)
            return true;
    return false;
}

bool reader_converts(const struct reader *r)
{
    return r->format->convert != NULL;
}

size_t reader_memory(const struct reader *r)
{
    return r->line.room + 2 * r->header.room + vcf_memory(&r->vcf) + gtf_memory(&r->gtf);
}
