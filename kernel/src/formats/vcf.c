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

static const char TITLES[] = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO";

static size_t count_tabs(const char *line, size_t n)
{
    size_t tabs = 0;
    for (const char *p = line, *end = line + n; (p = memchr(p, '\t', (size_t)(end - p))); p++)
        tabs++;
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

static void first_record(struct reader *r, uint64_t number, const char *line, size_t n)
{
    size_t columns = count_tabs(line, n) + 1;
    if (!r->vcf.titles.n) {
        if (!r->vcf.has_version)
            refuse(number, "a record without a header: neither ##fileformat=VCF nor #CHROM stands above it");
        if (columns > VCF_COLUMNS)
            refuse(number, "the #CHROM line is missing, so the samples have no names");
        r->counts[ADDED_HEADER_LINES]++;
        header_add(r, number, &r->vcf.titles, TITLES, sizeof TITLES - 1);
        return;
    }
    size_t named = count_tabs(r->vcf.titles.bytes, r->vcf.titles.n) + 1;
    if (columns != named)
        refuse(number, "%zu columns, but the #CHROM line names %zu", columns, named);
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

static bool spans(const char *alt, size_t n)
{
    return memmem(alt, n, "<DEL", 4) || memmem(alt, n, "<DUP", 4) || memmem(alt, n, "<INV", 4) ||
           memmem(alt, n, "<CNV", 4);
}

static uint32_t end_of(uint64_t number, uint32_t start, const char *line, const uint32_t *tabs)
{
    uint64_t end = (uint64_t)start + (tabs[REF] - tabs[REF - 1] - 1), value;
    end = end ? end - 1 : 0;
    const char *alt = line + tabs[ALT - 1] + 1, *stop = line + tabs[INFO];
    size_t alt_n = tabs[ALT] - tabs[ALT - 1] - 1;
    bool wide = memchr(alt, '<', alt_n) && spans(alt, alt_n);
    for (const char *key = line + tabs[INFO - 1] + 1; key < stop;) {
        size_t left = (size_t)(stop - key);
        const char *next = memchr(key, ';', left);
        const char *key_stop = next ? next : stop;
        if (left > 4 && memcmp(key, "END=", 4) == 0) {
            if (amount(key + 4, key_stop, &value) && key[4] != '-' && value > end)
                end = value;
        } else if (wide && left > 6 && memcmp(key, "SVLEN=", 6) == 0) {
            for (const char *p = key + 6; p && p < key_stop;) {
                /* A guess at most: nobody is refused for a length that leads beyond what a reader can ask for. */
                if (amount(p, key_stop, &value) && start + value > end && start + value <= MAX_COORDINATE)
                    end = start + value;
                p = memchr(p, ',', (size_t)(key_stop - p));
                p = p ? p + 1 : NULL;
            }
        }
        key = next ? next + 1 : stop;
    }
    if (end > MAX_COORDINATE)
        refuse(number, "the record ends at %llu, above %u", (unsigned long long)end, MAX_COORDINATE);
    return (uint32_t)end;
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
    .first_record = first_record,
    .end_of = end_of,
    .undeclared = undeclared,
    .will_add = will_add,
};
