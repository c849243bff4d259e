/* See records.h: what all formats share, and BED. */
#define _GNU_SOURCE
#include "formats/records.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "failure.h"
#include "formats/numbers.h"
#include "source_limits.h"

const char *const oddity_names[ODDITIES] = {
    "byte_order_mark",     "carriage_returns", "blank_lines",           "comment_lines",
    "display_lines",       "heading_lines",    "repeated_header_lines", "replaced_header_lines",
    "added_header_lines",  "separator_lines",  "sequence_lines",        "spaced_lines",
    "respelt_coordinates", "line_comments",    "added_genes",           "added_transcripts",
};

static const struct format formats[] = {
    {"bed", "BED", BED, 3, 1, 2, 0, false},
    {"narrowpeak", "narrowPeak", BED, 10, 1, 2, 0, false},
    {"broadpeak", "broadPeak", BED, 9, 1, 2, 0, false},
    {"gff", "GFF", GFF, 8, 3, 4, 1, false},
    {"gff3", "GFF3", GFF, 9, 3, 4, 1, false},
    {"gtf", "GTF", GFF, 9, 3, 4, 1, true},
    {"vcf", "VCF", VCF, 8, 1, -1, 0, false},
};

enum { MOST_COLUMNS = 10 };

static const char GFF3_VERSION[] = "##gff-version 3\n";

const struct format *format_named(const char *name)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].name, name) == 0)
            return &formats[i];
    return NULL;
}

void text_add(struct text *t, const void *bytes, size_t n)
{
    if (t->n + n > t->room) {
        t->room = (t->n + n) * 2;
        t->bytes = grow(t->bytes, t->room);
    }
    if (n)
        memcpy(t->bytes + t->n, bytes, n);
    t->n += n;
}

void reader_start(struct reader *r, const struct format *format, struct contigs *contigs)
{
    memset(r, 0, sizeof *r);
    r->format = format;
    r->contigs = contigs;
    r->parents.contigs = contigs;
}

void reader_free(struct reader *r)
{
    free(r->header.bytes);
    free(r->titles.bytes);
    free(r->fileformat.bytes);
    free(r->line.bytes);
    free(r->made.bytes);
    free(r->attributes.all);
    free(r->declared);
    free(r->lacking);
    parents_free(&r->parents);
}

bool starts_with(const char *line, size_t n, const char *what)
{
    size_t length = strlen(what);
    return n >= length && memcmp(line, what, length) == 0;
}

static bool space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

size_t without_trailing_space(const char *line, size_t n)
{
    while (n && space(line[n - 1]))
        n--;
    return n;
}

void header_add(struct reader *r, uint64_t number, struct text *to, const char *line, size_t n)
{
    if (r->header.n + r->titles.n + n >= MAX_HEADER) {
        struct failure f = {.code = EXIT_LIMIT, .reason = SOURCE_INVALID, .line = number};
        snprintf(f.detail, sizeof f.detail, "line %llu: the header is longer than %llu bytes",
                 (unsigned long long)number, (unsigned long long)MAX_HEADER);
        fail_with(&f);
    }
    text_add(to, line, n);
    text_add(to, "\n", 1);
}

void declare(struct reader *r, const char *name, size_t n, bool has_length, uint64_t length, bool again)
{
    uint32_t number = contigs_number(r->contigs, name, n, r->format->title);
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
        r->declared = grow(r->declared, r->declared_room * sizeof *r->declared);
    }
    r->declared[r->declared_count++] = number;
}

/* `track` and `browser` lines of the UCSC browser, unless it is a record on a sequence of that name. */
static bool display_line(const char *line, size_t n)
{
    size_t word = starts_with(line, n, "track") ? 5 : starts_with(line, n, "browser") ? 7 : 0;
    if (!word || (n > word && line[word] != ' ' && line[word] != '\t'))
        return false;
    const char *p = memchr(line, '\t', n), *end = line + n;
    for (int column = 0; column < 2; column++) {
        if (!p || p == end || *p != '\t')
            return true;
        const char *from = ++p;
        while (p < end && *p >= '0' && *p <= '9')
            p++;
        if (p == from)
            return true;
    }
    return false;
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
    if (!r->begun || r->over || format->end < 0 || format->transcoded)
        return false;
    const char *p = contigs_know(r->contigs, line, n), *end = line + n;
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
    *record = (struct record){line, n, r->contigs->last, (uint32_t)from, (uint32_t)to, false};
    return true;
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
    if (r->format->family == GFF && n && line[0] == '>')
        r->over = true;
    while (n && line[n - 1] == '\r') {
        r->counts[CARRIAGE_RETURNS]++;
        n--;
    }
    if (r->over) {
        r->counts[SEQUENCE_LINES]++;
        return false;
    }
    if (n == 0 || (space(line[0]) && without_trailing_space(line, n) == 0)) {
        r->counts[BLANK_LINES]++;
        return false;
    }
    if (line[0] == '#') {
        if (r->format->family == VCF)
            vcf_comment(r, number, line, n);
        else if (r->format->family == GFF)
            gff_comment(r, number, line, n);
        else if (r->begun)
            r->counts[COMMENT_LINES]++;
        else
            header_add(r, number, &r->header, line, n);
        return false;
    }
    if ((line[0] == 't' || line[0] == 'b') && display_line(line, n)) {
        r->counts[DISPLAY_LINES]++;
        return false;
    }
    return reader_record(r, number, line, n, record);
}

/* Where the first `wanted` columns end; how many were found. */
static int columns_of(const char *line, size_t n, int wanted, uint32_t *tabs)
{
    const char *p = line, *end = line + n;
    for (int found = 0; found < wanted; found++) {
        const char *tab = memchr(p, '\t', (size_t)(end - p));
        tabs[found] = (uint32_t)((tab ? tab : end) - line);
        if (!tab)
            return found + 1;
        p = tab + 1;
    }
    return wanted;
}

static bool heading(const char *field, size_t n)
{
    static const char *const words[] = {"start", "chromstart", "chrom_start", "begin"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i]) == n && strncasecmp(field, words[i], n) == 0)
            return true;
    return false;
}

/* Columns split by spaces become columns split by TAB, in r->line; how many there are. */
static int respace(struct reader *r, const char *line, size_t n)
{
    int columns = 0;
    r->line.n = 0;
    for (size_t i = 0; i < n;) {
        size_t from = i;
        while (i < n && !space(line[i]))
            i++;
        if (i > from) {
            if (columns++)
                text_add(&r->line, "\t", 1);
            text_add(&r->line, line + from, i - from);
        }
        while (i < n && space(line[i]))
            i++;
    }
    return columns;
}

struct coordinate {
    uint32_t value;
    bool respelt;
    char plain[128];
};

static void read_coordinate(struct reader *r, uint64_t number, const char *text, size_t n, int column,
                            struct coordinate *c)
{
    uint64_t value = 0;
    c->respelt = false;
    if (!plain_number(text, n, &value)) {
        enum spelling how = exact_number(text, n, &value, c->plain);
        if (how == SPELT_NOT_WHOLE)
            refuse(number, "column %d is '%.*s', which is not a whole number", column + 1, n > 40 ? 40 : (int)n, text);
        if (how == SPELT_NEGATIVE)
            refuse(number, "position %s in column %d is below %u", c->plain, column + 1, r->format->lowest);
        if (how == SPELT_HUGE)
            refuse(number, "position %s in column %d is above %u", c->plain, column + 1, MAX_COORDINATE);
        c->respelt = true;
    }
    if (value < r->format->lowest)
        refuse(number, "position %u in column %d is below %u", (unsigned)value, column + 1, r->format->lowest);
    if (value > MAX_COORDINATE)
        refuse(number, "position %llu in column %d is above %u", (unsigned long long)value, column + 1, MAX_COORDINATE);
    c->value = (uint32_t)value;
    r->counts[RESPELT_COORDINATES] += c->respelt;
}

bool reader_record(struct reader *r, uint64_t number, const char *line, size_t n, struct record *record)
{
    if (quick_record(r, line, n, record))
        return true;
    const struct format *format = r->format;
    uint32_t tabs[MOST_COLUMNS] = {0};
    int found = columns_of(line, n, format->columns, tabs);
    if (found == 1 && format->family == BED && (r->spaced || !r->begun)) {
        int columns = respace(r, line, n);
        if (!r->begun && columns >= format->columns)
            r->spaced = true;
        if (r->spaced) {
            line = r->line.bytes;
            n = r->line.n;
            found = columns_of(line, n, format->columns, tabs);
            r->counts[SPACED_LINES]++;
        }
    }
    if (found < format->columns)
        refuse(number, "%d columns, but %s has %d or more, split by TAB", found, format->title, format->columns);
    if (!r->begun && format->family == BED && heading(line + tabs[0] + 1, tabs[1] - tabs[0] - 1)) {
        r->counts[HEADING_LINES]++;
        return false;
    }
    if (tabs[0] == 0)
        refuse(number, "the sequence name is empty");
    if (line[0] == '#')
        refuse(number, "the sequence name starts with #, which would make the record a comment");
    if (!r->begun && format->family == VCF)
        vcf_first_record(r, number, line, n);

    struct coordinate start, end = {0};
    uint32_t from = tabs[format->start - 1] + 1;
    read_coordinate(r, number, line + from, tabs[format->start] - from, format->start, &start);
    if (format->end >= 0) {
        uint32_t second = tabs[format->end - 1] + 1;
        read_coordinate(r, number, line + second, tabs[format->end] - second, format->end, &end);
        if (start.value > end.value)
            refuse(number, "start %u is after end %u", start.value, end.value);
    } else {
        end.value = vcf_end(number, start.value, line, tabs, n);
    }
    record->contig = contigs_number(r->contigs, line, tabs[0], format->title);
    if (format->family == VCF && !r->contigs->all[record->contig].declared)
        vcf_lacks(r, record->contig);
    record->start = start.value;
    record->end = end.value;
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
        if (format->transcoded)
            columns_of(line, n, format->columns, tabs);
    }
    record->text = line;
    record->n = n;
    record->added = false;
    if (format->transcoded && !r->as_is)
        gtf_record(r, number, tabs, record);
    return true;
}

void reader_finish(struct reader *r, bool any_records, bool as_found, struct text *header)
{
    if (r->format->family == VCF)
        vcf_finish(r, any_records, as_found, header);
    if (r->format->transcoded && !r->as_is) {
        text_add(header, GFF3_VERSION, sizeof GFF3_VERSION - 1);
        r->counts[ADDED_HEADER_LINES] += !r->headed;
        r->headed = true;
    }
    if (r->format->family != VCF)
        text_add(header, r->header.bytes, r->header.n);
}

bool reader_added(struct reader *r, uint32_t *next, struct record *record)
{
    return r->format->transcoded && gtf_added(r, next, record);
}

size_t reader_memory(const struct reader *r)
{
    return r->line.room + r->made.room + 2 * r->header.room + r->attributes.room * sizeof *r->attributes.all +
           r->parents.memory + 2 * (r->lacking_bytes + r->lacking_room * sizeof *r->lacking);
}

bool reader_has_header(const struct reader *r)
{
    return r->header.n || r->titles.n || r->fileformat.n;
}

void format_interval(const struct format *format, uint32_t start, uint32_t end, int64_t *from, int64_t *to)
{
    /* Starts of GFF and VCF count from 1; VCF's 0 is the telomere, which the index holds as the first base. */
    *from = format->family == BED ? start : start ? (int64_t)start - 1 : 0;
    /* An empty BED interval is found as the base it stands before. */
    *to = (int64_t)end > *from ? end : *from + 1;
}
