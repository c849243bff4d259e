/*
 * GTF becomes GFF3, line by line: the first eight columns stay, the attributes are spelt as GFF3 spells them, with ID
 * and Parent in front (GTF 2.2; GFF3 spec 1.26).
 *
 * WHO IS WHOSE PARENT. A line whose type ends with "gene" stands for its gene_id; one whose type ends with "RNA",
 * "transcript" or "gene_segment", or a "...gene" other than plain gene that has a transcript_id, for its transcript_id;
 * any other is a part of its transcript, or of its gene when it has no transcript_id. Ids stay as they are, but a
 * transcript with its gene's id (as UCSC's tables have it) is called transcript:ID.
 *
 * WHAT HAS NO LINE of its own but parts gets one (added): over all its parts, with the source, the strand and the
 * attributes of gene and transcript of the record that named it first. Genes first, then transcripts, each in the order
 * of first mention; in the sorted file they stand before everything else with the same start.
 *
 * NAMES. Browsers show a gene by its Name: gene_name, or gene as RefSeq has it; a transcript's is its transcript_name. A
 * line that has a Name of its own keeps that alone.
 *
 * A line that has ID= or Parent= is GFF3 already and stays as it is, and so does every line below a ##gff-version 3.
 * How attributes are spelt: gtf_attributes.h.
 *
 * src/gooseherd/processing/formats/gtf.py does the same, byte for byte.
 */
#define _GNU_SOURCE
#include "formats/gtf.h"

#include <htslib/tbx.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "formats/reader.h"
#include "source_limits.h"

enum { TYPE = 2, STRAND = 6, ATTRIBUTES = 8 };

enum rank { GENE, TRANSCRIPT, PART };

static const char LIKE_GENE[] = "transcript:";
static const char GFF3_VERSION[] = "##gff-version 3\n";

static bool ends_with(const char *text, size_t n, const char *what)
{
    size_t length = strlen(what);
    return n >= length && memcmp(text + n - length, what, length) == 0;
}

static enum rank rank_of(const char *type, size_t n, bool has_transcript)
{
    if (ends_with(type, n, "gene") && (!has_transcript || n == strlen("gene")))
        return GENE;
    bool above = ends_with(type, n, "RNA") || ends_with(type, n, "transcript") || ends_with(type, n, "gene_segment") ||
                 ends_with(type, n, "gene");
    return has_transcript && above ? TRANSCRIPT : PART;
}

static const struct attribute *name_of(const struct attributes *all, enum rank rank)
{
    if (rank == TRANSCRIPT)
        return attribute_named(all, "transcript_name");
    const struct attribute *name = rank == GENE ? attribute_named(all, "gene_name") : NULL;
    return name || rank != GENE ? name : attribute_named(all, "gene");
}

static char *write_name(char *to, const struct attribute *name, bool separate)
{
    if (separate)
        *to++ = ';';
    to = write_bytes(to, "Name=", 5);
    return attribute_write_value(to, name);
}

/* What a line of its own would say, from the record that names this gene or transcript for the first time. */
static void describe(struct reader *r, uint32_t number, const char *line, const uint32_t *tabs, size_t bound)
{
    struct parent *parent = &r->gtf.parents.all[number];
    if (parent->about)
        return;
    struct text about = {0};
    char *from = text_reserve(&about, bound), *to = from;
    uint32_t source = tabs[0] + 1;
    parent->source_n = tabs[1] - source;
    to = write_bytes(to, line + source, parent->source_n);
    const struct attribute *name = name_of(&r->gtf.attributes, parent->transcript ? TRANSCRIPT : GENE);
    if (name)
        to = write_name(to, name, false);
    to = attributes_write(to, &r->gtf.attributes, parent->transcript ? OF_GENE_AND_TRANSCRIPT : OF_GENE, name != NULL);
    parent->about_n = (uint32_t)(to - from);
    parent->about = contigs_copy_bytes(r->contigs, from, parent->about_n);
    parent->strand = tabs[STRAND] - tabs[STRAND - 1] == 2 ? line[tabs[STRAND] - 1] : '.';
    free(about.bytes);
}

static void convert(struct reader *r, uint64_t number, const uint32_t *tabs, struct record *record)
{
    const char *line = record->text, *column = line + tabs[ATTRIBUTES - 1] + 1, *stop = line + tabs[ATTRIBUTES];
    size_t n = record->n, column_n = (size_t)(stop - column);
    if (r->gtf.is_gff3)
        return;
    struct attributes *all = &r->gtf.attributes;
    attributes_read(all, column, stop);
    r->counts[LINE_COMMENTS] += all->has_comment;
    if (all->is_gff3) {
        r->gtf.identified = true;
        return;
    }
    const struct attribute *gene = attribute_named(all, "gene_id"), *transcript = attribute_named(all, "transcript_id");
    const char *type = line + tabs[TYPE - 1] + 1;
    enum rank rank = rank_of(type, tabs[TYPE] - tabs[TYPE - 1] - 1, transcript != NULL);
    bool like_gene = gene && transcript && gene->value_n == transcript->value_n &&
                     memcmp(gene->value, transcript->value, gene->value_n) == 0;
    /* Every byte of the column at most three times: in its place, in ID or Name and in Parent; and what stands between. */
    size_t bound = n + 3 * (column_n + 2 * all->escapes) + 8 * all->n + 64;

    uint32_t of_gene = NO_PARENT, of_transcript = NO_PARENT;
    if (gene) {
        of_gene = parents_intern(&r->gtf.parents, false, record->contig, gene->value, gene->value_n, record->start,
                                 record->end);
        if (rank == GENE)
            parents_mark_present(&r->gtf.parents, of_gene);
        else if (!r->gtf.parents.all[of_gene].present)
            describe(r, of_gene, line, tabs, bound);
    }
    if (transcript && rank != GENE) {
        of_transcript = parents_intern(&r->gtf.parents, true, record->contig, transcript->value, transcript->value_n,
                                       record->start, record->end);
        struct parent *parent = &r->gtf.parents.all[of_transcript];
        if (rank == TRANSCRIPT) {
            parents_mark_present(&r->gtf.parents, of_transcript);
        } else if (!parent->present && !parent->about) {
            parent->gene = of_gene;
            parent->like_gene = like_gene;
            describe(r, of_transcript, line, tabs, bound);
        }
    }
    r->gtf.identified |= gene || transcript;

    char *from = text_reserve(&r->gtf.converted, bound), *to = write_bytes(from, line, (size_t)(column - line));
    bool separate = false;
    if (rank == GENE ? gene != NULL : rank == TRANSCRIPT) {
        const struct attribute *own = rank == GENE ? gene : transcript;
        to = write_bytes(to, "ID=", 3);
        if (rank == TRANSCRIPT && like_gene)
            to = write_bytes(to, LIKE_GENE, sizeof LIKE_GENE - 1);
        to = attribute_write_value(to, own);
        separate = true;
    }
    const struct attribute *above = rank == PART && transcript ? transcript : rank == GENE ? NULL : gene;
    if (above) {
        if (separate)
            *to++ = ';';
        to = write_bytes(to, "Parent=", 7);
        if (above == transcript && like_gene)
            to = write_bytes(to, LIKE_GENE, sizeof LIKE_GENE - 1);
        to = attribute_write_value(to, above);
        separate = true;
    }
    const struct attribute *name = attribute_has_key(all, "Name") ? NULL : name_of(all, rank);
    if (name) {
        to = write_name(to, name, separate);
        separate = true;
    }
    char *before = to;
    to = attributes_write(to, all, ALL_ATTRIBUTES, separate);
    if (to == before && !separate)
        *to++ = '.';
    to = write_bytes(to, stop, (size_t)(line + n - stop));
    record->text = from;
    record->n = (size_t)(to - from);
    if (record->n > MAX_LINE)
        refuse(number, "the line would be longer than %llu bytes in GFF3", (unsigned long long)MAX_LINE);
}

/* Column 9 of what has no line. */
static void add_escaped(struct text *to, const char *bytes, size_t n)
{
    struct text made = {0};
    char *from = text_reserve(&made, 3 * n + 1), *end = write_escaped(from, bytes, n, true);
    text_add(to, from, (size_t)(end - from));
    free(made.bytes);
}

static void add_word(struct text *to, const char *word)
{
    text_add(to, word, strlen(word));
}

static void add_number(struct text *to, uint32_t value)
{
    char digits[10];
    int at = sizeof digits;
    do
        digits[--at] = (char)('0' + value % 10);
    while (value /= 10);
    text_add(to, digits + at, sizeof digits - (size_t)at);
}

static bool added(struct reader *r, uint32_t *next, struct record *record)
{
    const struct parents *all = &r->gtf.parents;
    /* Twice over the list: genes, then transcripts. */
    const uint32_t most = 2 * all->count;
    for (uint32_t i = *next; i < most; i++) {
        bool transcripts = i >= all->count;
        const struct parent *p = &all->all[transcripts ? i - all->count : i];
        if (p->transcript != transcripts || p->present)
            continue;
        const struct contig *contig = &r->contigs->all[p->contig];
        struct text *to = &r->gtf.converted;
        to->n = 0;
        text_add(to, contig->name, contig->n);
        add_word(to, "\t");
        text_add(to, p->about, p->source_n);
        add_word(to, transcripts ? "\ttranscript\t" : "\tgene\t");
        add_number(to, p->start);
        add_word(to, "\t");
        add_number(to, p->end);
        add_word(to, "\t.\t");
        text_add(to, &p->strand, 1);
        add_word(to, "\t.\tID=");
        if (p->like_gene)
            add_word(to, LIKE_GENE);
        add_escaped(to, p->id, p->id_n);
        if (p->gene != NO_PARENT) {
            add_word(to, ";Parent=");
            add_escaped(to, all->all[p->gene].id, all->all[p->gene].id_n);
        }
        if (p->about_n > p->source_n) {
            add_word(to, ";");
            text_add(to, p->about + p->source_n, p->about_n - p->source_n);
        }
        r->counts[transcripts ? ADDED_TRANSCRIPTS : ADDED_GENES]++;
        *record = (struct record){
            .text = to->bytes, .n = to->n, .contig = p->contig, .start = p->start, .end = p->end, .added = true};
        *next = i + 1;
        return true;
    }
    *next = most;
    return false;
}

/* --- header --------------------------------------------------------------------------------------------------- */

/* What a GTF says of its own format, which is about to change. */
static bool about_format(struct reader *r, const char *line, size_t n)
{
    size_t length = without_trailing_space(line, n), at = strlen("##gff-version");
    if (starts_with(line, n, "##gff-version") && at < length && is_space(line[at])) {
        size_t version = next_word(line, length, &at);
        r->gtf.is_gff3 |= at == length && at - version == 1 && line[version] == '3';
        return !r->gtf.is_gff3;
    }
    return length == 13 && memcmp(line, "##format: gtf", 13) == 0;
}

static void comment(struct reader *r, uint64_t number, const char *line, size_t n)
{
    if (gff_directive(r, number, line, n))
        return;
    if (r->begun)
        r->counts[COMMENT_LINES]++;
    else if (!r->gtf.is_gff3 && about_format(r, line, n))
        r->counts[REPLACED_HEADER_LINES]++;
    else
        header_add(r, number, &r->header, line, n);
}

static void finish(struct reader *r, bool any_records, bool as_found, struct text *header)
{
    (void)any_records, (void)as_found;
    if (!r->gtf.is_gff3) {
        text_add(header, GFF3_VERSION, sizeof GFF3_VERSION - 1);
        r->counts[ADDED_HEADER_LINES] += !r->gtf.version_added;
        r->gtf.version_added = true;
    }
    text_add(header, r->header.bytes, r->header.n);
}

static bool will_add(const struct reader *r)
{
    /* A parent without a line of its own that has parts already will hardly get one later. */
    return r->gtf.parents.missing > 0;
}

static void check(const struct reader *r)
{
    if (!r->gtf.is_gff3 && !r->gtf.identified)
        fail(EXIT_INVALID, SOURCE_INVALID, "no record has a gene_id or transcript_id: this is no GTF");
}

void gtf_free(struct gtf *g)
{
    free(g->converted.bytes);
    free(g->attributes.all);
    parents_free(&g->parents);
}

size_t gtf_memory(const struct gtf *g)
{
    return g->converted.room + g->attributes.room * sizeof *g->attributes.all + g->parents.memory;
}

const struct format format_gtf = {
    .name = "gtf",
    .title = "GTF",
    .tabix = &tbx_conf_gff,
    .columns = 9,
    .start = 3,
    .end = 4,
    .base = 1,
    .lowest = 1,
    .fasta = true,
    .may_have_heading = true,
    .comment = comment,
    .finish = finish,
    .convert = convert,
    .added = added,
    .will_add = will_add,
    .check = check,
};
