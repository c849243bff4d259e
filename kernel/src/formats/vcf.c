/*
 * VCF: the header stands above the records in its own order (VCFv4.5 1.4), and declares their sequences; where a record
 * ends (1.6.1, END, SVLEN).
 */
#define _GNU_SOURCE
#include "formats/reader.h"

#include <htslib/tbx.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"

enum { REF = 3, ALT = 4, INFO = 7, VCF_COLUMNS = 8 };

static const size_t NONE = SIZE_MAX;

static const char TITLES[] = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO";

/* Of each record, which may have thousands: in sixteen counters of a byte, which the compiler keeps in one register. */
static size_t count_tabs(const char *line, size_t n)
{
    typedef uint8_t lanes __attribute__((vector_size(16)));
    enum { AT_ONCE = 255 }; /* more does not fit a counter */
    size_t tabs = 0, at = 0;
    while (n - at >= sizeof(lanes)) {
        lanes counters = {0}, bytes;
        for (int i = 0; i < AT_ONCE && n - at >= sizeof bytes; i++, at += sizeof bytes) {
            memcpy(&bytes, line + at, sizeof bytes);
            counters -= (lanes)(bytes == '\t'); /* -1 where it is */
        }
        uint64_t halves[2];
        memcpy(halves, &counters, sizeof halves);
        for (int i = 0; i < 2; i++) {
            /* Four counters of sixteen bits. */
            uint64_t sums = (halves[i] & 0x00ff00ff00ff00ffu) + (halves[i] >> 8 & 0x00ff00ff00ff00ffu);
            tabs += (size_t)(sums * 0x0001000100010001u >> 48);
        }
    }
    for (; at < n; at++)
        tabs += line[at] == '\t';
    return tabs;
}

/* ##contig=<...,ID=name,...>: the last ID before the first '>'. */
static void contig_line(struct reader *r, const char *line, size_t n)
{
    size_t at = strlen("##contig=<");
    if (!starts_with(line, n, "##contig=<"))
        return;
    const char *close = memchr(line + at, '>', n - at), *stop = close ? close : line + n;
    const char *name = NULL, *name_end = NULL;
    for (const char *p = line + at - 1; p + 4 < stop; p++)
        if ((*p == ',' || p == line + at - 1) && memcmp(p + 1, "ID=", 3) == 0 && p[4] != ',') {
            name = p + 4;
            const char *comma = memchr(name, ',', (size_t)(stop - name));
            name_end = comma ? comma : stop;
        }
    if (!name)
        return;
    bool has_length = false;
    uint64_t length = 0;
    for (const char *p = line; !has_length && (p = memmem(p, (size_t)(line + n - p), "length=", 7)); p++) {
        if (p[-1] != '<' && p[-1] != ',')
            continue;
        const char *q = p + 7, *from = q;
        for (length = 0; q < line + n && *q >= '0' && *q <= '9' && q - from < 10; q++)
            length = length * 10 + (uint64_t)(*q - '0');
        has_length = q > from && q < line + n && (*q == ',' || *q == '>');
    }
    declare(r, name, (size_t)(name_end - name), has_length && length, length, true);
}

static void comment(struct reader *r, uint64_t number, const char *line, size_t n)
{
    if (starts_with(line, n, "#CHROM")) {
        size_t length = n;
        while (length && line[length - 1] == ' ' && count_tabs(line, n) < VCF_COLUMNS)
            length--; /* with it htslib does not know the line; behind a sample's name it is part of that */
        if (count_tabs(line, length) == VCF_COLUMNS && ends_with(line, length, "\tFORMAT"))
            length -= strlen("\tFORMAT"); /* no sample follows: htslib does not read such a line */
        r->counts[RESPELT_TITLES] += length < n && !r->vcf.titles.n;
        n = length;
        bool same = r->vcf.titles.n == n + 1 && memcmp(r->vcf.titles.bytes, line, n) == 0;
        if (r->vcf.titles.n && !same)
            refuse(number, "a second header with other columns: these are several VCFs in one file");
        if (!r->vcf.titles.n) {
            header_add(r, number, &r->vcf.titles, line, n);
            return;
        }
    }
    if (r->begun || r->vcf.titles.n) {
        r->counts[REPEATED_HEADER_LINES]++;
        return;
    }
    if (!starts_with(line, n, "##")) {
        r->counts[COMMENT_LINES]++; /* htslib would take it for that of the titles */
        return;
    }
    /* htslib knows a VCF by its first line, and there can be only one: the first of them goes on top. */
    if (starts_with(line, n, "##fileformat=")) {
        r->vcf.has_version |= starts_with(line, n, "##fileformat=VCF");
        if (r->vcf.fileformat.n)
            r->counts[REPEATED_HEADER_LINES]++;
        else
            header_add(r, number, &r->vcf.fileformat, line, n);
        return;
    }
    header_add(r, number, &r->header, line, n);
    contig_line(r, line, n);
}

static void judge_header(struct reader *r, uint64_t number, size_t columns)
{
    if (!r->vcf.titles.n) {
        if (!r->vcf.has_version)
            refuse(number, "a record without a header: neither ##fileformat=VCF nor #CHROM stands above it");
        if (columns > VCF_COLUMNS)
            refuse(number, "the #CHROM line is missing, so the samples have no names");
        r->counts[ADDED_HEADER_LINES]++;
        header_add(r, number, &r->vcf.titles, TITLES, sizeof TITLES - 1);
    }
    r->vcf.named = count_tabs(r->vcf.titles.bytes, r->vcf.titles.n) + 1;
}

/* htslib leaves out columns that have no titles, and refuses records with fewer columns than titles. */
static bool judge_columns(struct reader *r, uint64_t number, const char *line, size_t n, const uint32_t *tabs)
{
    size_t columns = VCF_COLUMNS + count_tabs(line + tabs[INFO], n - tabs[INFO]);
    if (!r->begun)
        judge_header(r, number, columns);
    if (columns < r->vcf.named || r->vcf.named < VCF_COLUMNS)
        return bad_line(r, number, "%zu columns, but the #CHROM line names %zu", columns, r->vcf.named);
    r->counts[WIDE_RECORDS] += columns > r->vcf.named;
    return true;
}

/* The whole number, sign ignored, at `p`; false when there is none. Saturates. */
static bool amount(const char *p, const char *stop, uint64_t *value)
{
    if (p < stop && *p == '-')
        p++;
    const char *from = p;
    for (*value = 0; p < stop && *p >= '0' && *p <= '9' && p - from < 18; p++)
        *value = *value * 10 + (uint64_t)(*p - '0');
    return p > from;
}

/* Where the field at `p` of a list ends. */
static const char *field_end(const char *p, const char *stop, char separator)
{
    const char *found = memchr(p, separator, (size_t)(stop - p));
    return found ? found : stop;
}

/* How many fields of a list stand before the one that is `key`; NONE: it is not there. */
static size_t place_of(const char *p, const char *stop, char separator, const char *key)
{
    size_t length = strlen(key);
    for (size_t at = 0;; at++) {
        const char *end = field_end(p, stop, separator);
        if ((size_t)(end - p) == length && memcmp(p, key, length) == 0)
            return at;
        if (end == stop)
            return NONE;
        p = end + 1;
    }
}

/* Whether SVLEN says how many bases of the reference a symbolic allele takes (VCFv4.5 1.6.1). */
static bool is_wide(const char *alt, const char *stop)
{
    static const char kinds[][4] = {"DEL", "DUP", "INV", "CNV"};
    if (stop - alt < 5 || *alt != '<' || stop[-1] != '>' || (alt[4] != '>' && alt[4] != ':'))
        return false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (memcmp(alt + 1, kinds[i], 3) == 0)
            return true;
    return false;
}

/* The longest SVLEN of an allele that is_wide; each allele has its own. */
static uint64_t longest_of_alleles(const char *alt, const char *alt_stop, const char *p, const char *stop)
{
    uint64_t longest = 0, value;
    for (;;) {
        const char *alt_end = field_end(alt, alt_stop, ','), *end = field_end(p, stop, ',');
        if (is_wide(alt, alt_end) && amount(p, end, &value) && value > longest)
            longest = value;
        if (alt_end == alt_stop || end == stop)
            return longest;
        alt = alt_end + 1;
        p = end + 1;
    }
}

/* The longest LEN of any sample (VCFv4.5 1.6.2); 0: none. `p`: behind INFO. */
static uint64_t longest_of_samples(const char *p, const char *stop)
{
    if (p == stop)
        return 0;
    p++;
    const char *samples = field_end(p, stop, '\t');
    size_t at = place_of(p, samples, ':', "LEN");
    uint64_t longest = 0, value;
    while (at != NONE && samples < stop) {
        const char *field = samples + 1, *end = samples = field_end(field, stop, '\t');
        for (size_t i = 0; field && i < at; i++) {
            field = memchr(field, ':', (size_t)(end - field));
            field = field ? field + 1 : NULL;
        }
        if (field && field < end && *field != '-' && amount(field, end, &value) && value > longest)
            longest = value;
    }
    return longest;
}

/* Whether an allele is a breakend, N[chr2:7[ and the like, whose mate is on another sequence (VCFv4.5 5.4). */
static bool joins_another(const char *alt, const char *stop, const char *name, size_t n)
{
    const char *p = alt;
    while (p < stop && *p != '[' && *p != ']')
        p++;
    if (p == stop)
        return false;
    const char *mate = p + 1, *end = memchr(mate, *p, (size_t)(stop - mate));
    const char *colon = end ? memrchr(mate, ':', (size_t)(end - mate)) : NULL;
    return colon && ((size_t)(colon - mate) != n || memcmp(mate, name, n) != 0);
}

/*
 * The furthest that REF, END, SVLEN and LEN lead, as htslib has it since 1.22; where its two readers differ by a base
 * (SVLEN), the further one. Lengths are a guess: nobody is refused for one that leads beyond what a reader can ask for.
 */
static uint64_t end_of(uint32_t start, const char *line, size_t n, const uint32_t *tabs, bool *elsewhere)
{
    uint64_t first = start ? start : 1, end = first + (tabs[REF] - tabs[REF - 1] - 1) - 1, value;
    const char *alt = line + tabs[ALT - 1] + 1, *alt_stop = line + tabs[ALT], *stop = line + tabs[INFO];
    const char *length = NULL, *length_stop = NULL;
    bool symbolic = memchr(alt, '<', (size_t)(alt_stop - alt)), ended = false, stated = false, other = false;
    for (const char *key = line + tabs[INFO - 1] + 1; key < stop;) {
        size_t left = (size_t)(stop - key);
        const char *key_stop = field_end(key, stop, ';');
        if (left > 4 && !ended && memcmp(key, "END=", 4) == 0) {
            ended = true;
            if (amount(key + 4, key_stop, &value) && key[4] != '-' && value > end) {
                end = value;
                stated = true;
            }
        } else if (left > 5 && memcmp(key, "CHR2=", 5) == 0) {
            size_t name = (size_t)(key_stop - key) - 5;
            other |= name != tabs[0] || memcmp(key + 5, line, name) != 0;
        } else if (symbolic && left > 6 && !length && memcmp(key, "SVLEN=", 6) == 0) {
            length = key + 6;
            length_stop = key_stop;
        }
        key = key_stop + 1;
    }
    *elsewhere = stated && (other || joins_another(alt, alt_stop, line, tabs[0]));
    if (length) {
        value = longest_of_alleles(alt, alt_stop, length, length_stop);
        if (value && start + value > end && start + value <= MAX_COORDINATE) {
            end = start + value;
            *elsewhere = false;
        }
    }
    if (symbolic &&
        (place_of(alt, alt_stop, ',', "<*>") != NONE || place_of(alt, alt_stop, ',', "<NON_REF>") != NONE)) {
        value = longest_of_samples(stop, line + n);
        if (value && first + value - 1 > end && first + value - 1 <= MAX_COORDINATE) {
            end = first + value - 1;
            *elsewhere = false;
        }
    }
    return end;
}

/* What a name of a sequence may be made of (VCFv4.5 1.4.7); any other would break its line. */
static bool declarable(const char *name, size_t n)
{
    static const char more[] = "!#$%&+./:;?@^_|~-", inside[] = "*=";
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        if (!plain && (!c || (!strchr(more, c) && (!i || !strchr(inside, c)))))
            return false;
    }
    return n > 0;
}

static const char CONTIG_LINE[] = "##contig=<ID=";

static void undeclared(struct reader *r, uint32_t number)
{
    struct contig *contig = &r->contigs->all[number];
    if (contig->undeclared || !declarable(contig->name, contig->n))
        return;
    contig->undeclared = true;
    if (r->vcf.undeclared_count == r->vcf.undeclared_room) {
        r->vcf.undeclared_room = r->vcf.undeclared_room ? r->vcf.undeclared_room * 2 : 64;
        r->vcf.undeclared = xrealloc(r->vcf.undeclared, r->vcf.undeclared_room * sizeof *r->vcf.undeclared);
    }
    r->vcf.undeclared[r->vcf.undeclared_count++] = number;
    r->vcf.undeclared_bytes += sizeof CONTIG_LINE + contig->n + 1;
    r->header_grew = true;
}

static int by_name(const void *a, const void *b, void *of)
{
    const struct contig *all = of;
    return contig_compare(&all[*(const uint32_t *)a], &all[*(const uint32_t *)b]);
}

/* By name, as the report lists what no line declares: a header does not depend on whether the records were sorted. */
static void declare_missing(struct reader *r, struct text *header)
{
    qsort_r(r->vcf.undeclared, r->vcf.undeclared_count, sizeof *r->vcf.undeclared, by_name, r->contigs->all);
    for (uint32_t i = 0; i < r->vcf.undeclared_count; i++) {
        const struct contig *contig = &r->contigs->all[r->vcf.undeclared[i]];
        text_add(header, CONTIG_LINE, sizeof CONTIG_LINE - 1);
        text_add(header, contig->name, contig->n);
        text_add(header, ">\n", 2);
    }
    r->counts[ADDED_HEADER_LINES] += r->vcf.undeclared_count - r->vcf.undeclared_counted;
    r->vcf.undeclared_counted = r->vcf.undeclared_count;
}

static void finish(struct reader *r, bool any_records, bool as_found, struct text *header)
{
    if (!any_records && !r->vcf.titles.n && !r->vcf.has_version)
        fail(EXIT_INVALID, SOURCE_INVALID, "no VCF header: neither ##fileformat=VCF nor #CHROM was found");
    if (!r->vcf.fileformat.n) {
        static const char version[] = "##fileformat=VCFv4.2\n";
        text_add(&r->vcf.fileformat, version, sizeof version - 1);
        r->counts[ADDED_HEADER_LINES]++;
    }
    if (!r->vcf.titles.n) {
        text_add(&r->vcf.titles, TITLES, sizeof TITLES - 1);
        text_add(&r->vcf.titles, "\n", 1);
        r->counts[ADDED_HEADER_LINES]++;
    }
    text_add(header, r->vcf.fileformat.bytes, r->vcf.fileformat.n);
    text_add(header, r->header.bytes, r->header.n);
    if (!as_found && r->vcf.undeclared_count)
        declare_missing(r, header);
    text_add(header, r->vcf.titles.bytes, r->vcf.titles.n);
}

static bool will_add(const struct reader *r)
{
    /* Where one sequence is not declared, others will not be. */
    return r->vcf.undeclared_count > 0;
}

void vcf_free(struct vcf *v)
{
    free(v->titles.bytes);
    free(v->fileformat.bytes);
    free(v->undeclared);
}

size_t vcf_memory(const struct vcf *v)
{
    return 2 * (v->undeclared_bytes + v->undeclared_room * sizeof *v->undeclared);
}

const struct format format_vcf = {
    .name = "vcf",
    .title = "VCF",
    .tabix = &tbx_conf_vcf,
    .columns = VCF_COLUMNS,
    .start = 1,
    .end = -1,
    .base = 1,
    .comment = comment,
    .finish = finish,
    .judge_columns = judge_columns,
    .end_of = end_of,
    .undeclared = undeclared,
    .will_add = will_add,
};
