/*
 * GTF becomes GFF3, line by line: the first eight columns stay, the attributes are spelt as GFF3 spells them, with ID
 * and Parent in front (GTF 2.2; GFF3 spec 1.26).
 *
 * WHO IS WHOSE PARENT. A line whose type ends with "gene" stands for its gene_id; one whose type ends with "RNA",
 * "transcript" or "gene_segment", or a "...gene" other than plain gene that has a transcript_id, for its transcript_id;
 * any other is a part of its transcript, or of its gene when it has no transcript_id. Where such a line has a bare word
 * instead of attributes (AUGUSTUS, BRAKER), that is its id, and a transcript within the gene above it belongs to that.
 * Ids stay as they are, but a transcript with its gene's id (as UCSC's tables have it) is called transcript:ID, and an id
 * that stands at several places (parents.h) has one parent at each. The id . is none.
 *
 * WHAT HAS NO LINE of its own but parts gets one (added): over all its parts, with the source and the attributes of gene
 * and transcript of the record that named it first. A gene without a line reaches over those of its transcripts that
 * overlap. Genes first, then transcripts, each in the order of first mention; in the sorted file they stand before
 * everything else with the same start.
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
#include "formats/parent_ids.h"
#include "formats/reader.h"
#include "source_limits.h"

enum { TYPE = 2, STRAND = 6, ATTRIBUTES = 8 };

enum rank { GENE, TRANSCRIPT, PART };

static const char GFF3_VERSION[] = "##gff-version 3\n";

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
static void describe(struct reader *r, struct about *about, const char *line, const uint32_t *tabs, size_t bound,
                     enum rank rank)
{
    if (about->bytes)
        return;
    struct text made = {0};
    char *from = text_reserve(&made, bound), *to = from;
    uint32_t source = tabs[0] + 1;
    about->source_n = tabs[1] - source;
    to = write_bytes(to, line + source, about->source_n);
    const struct attribute *name = name_of(&r->gtf.attributes, rank);
    if (name)
        to = write_name(to, name, false);
    to = attributes_write(to, &r->gtf.attributes, rank == TRANSCRIPT ? OF_GENE_AND_TRANSCRIPT : OF_GENE, name != NULL);
    about->n = (uint32_t)(to - from);
    about->bytes = contigs_copy_bytes(r->contigs, from, about->n);
    free(made.bytes);
}

/* --- whose record it is ------------------------------------------------------------------------------------------ */

/* A record as it is given to those that convert it. */
struct line {
    const char *text;
    const uint32_t *tabs;
    size_t bound; /* what it may grow to */
    enum rank rank;
    const struct attribute *gene, *transcript;
};

/* The parents it stands for or belongs to; NO_PARENT: none. */
struct family {
    uint32_t gene, transcript;
};

static const struct attribute *id_named(const struct attributes *all, const char *key)
{
    const struct attribute *id = attribute_named(all, key);
    return id && !(id->value_n == 1 && *id->value == '.') ? id : NULL;
}

/* A bare word instead of attributes: the id of a gene or a transcript. Whether it is one. */
static bool read_bare(struct attributes *all, const char *type, size_t n)
{
    struct attribute *word = all->all;
    if (all->n != 1 || all->has_comment || !word->bare)
        return false;
    bool gene = ends_with(type, n, "gene");
    if (!gene && rank_of(type, n, true) != TRANSCRIPT)
        return false;
    word->value = word->key;
    word->value_n = word->key_n;
    word->key = gene ? "gene_id" : "transcript_id";
    word->key_n = (uint32_t)strlen(word->key);
    return true;
}

/* The gene whose line stands above, if it holds this transcript. */
static uint32_t gene_above(const struct parents *p, const struct parent_query *q, uint32_t contig)
{
    uint32_t last = p->last[false];
    if (last >= p->count)
        return NO_PARENT;
    const struct parent *gene = &p->all[last];
    bool within = gene->present && p->names[gene->name].contig == contig && gene->strand == q->strand &&
                  gene->start <= q->start && q->end <= gene->end;
    return within ? last : NO_PARENT;
}

static struct family family_of(struct reader *r, const struct record *record, const struct line *line, bool bare)
{
    struct parents *p = &r->gtf.parents;
    struct family of = {NO_PARENT, NO_PARENT};
    const struct attribute *gene = line->gene, *transcript = line->rank == GENE ? NULL : line->transcript;
    const uint32_t *tabs = line->tabs;
    struct parent_query q = {
        .gene_name = NO_PARENT,
        .start = record->start,
        .end = record->end,
        .strand = tabs[STRAND] - tabs[STRAND - 1] == 2 ? line->text[tabs[STRAND] - 1] : '.',
        .near = line->rank == PART,
    };
    uint32_t gene_name = NO_PARENT;
    if (gene) {
        gene_name = parents_name(p, false, record->contig, gene->value, gene->value_n);
        if (line->rank != PART || !transcript) {
            q.name = gene_name;
            of.gene = parents_at(p, &q);
            if (line->rank == GENE)
                parents_mark_present(p, of.gene);
        }
    } else if (bare && transcript) {
        of.gene = gene_above(p, &q, record->contig);
        gene_name = of.gene == NO_PARENT ? NO_PARENT : p->all[of.gene].name;
    }
    bool in_need = of.gene != NO_PARENT && !p->all[of.gene].present;
    if (transcript) {
        uint32_t before = p->count;
        q.name = parents_name(p, true, record->contig, transcript->value, transcript->value_n);
        q.gene_name = gene_name;
        of.transcript = parents_at(p, &q);
        struct parent *parent = &p->all[of.transcript];
        if (p->count > before)
            parent->like_gene = gene && gene->value_n == transcript->value_n &&
                                memcmp(gene->value, transcript->value, gene->value_n) == 0;
        if (line->rank == TRANSCRIPT) {
            parents_mark_present(p, of.transcript);
            parent->gene = of.gene;
        } else if (!parent->present) {
            in_need = gene;
            describe(r, &parent->about, line->text, tabs, line->bound, TRANSCRIPT);
        }
    }
    if (in_need)
        describe(r, &p->names[gene_name].about, line->text, tabs, line->bound, GENE);
    return of;
}

/* What stands behind the ninth column belongs to it: some write TABs between attributes, or within them. */
static const char *joined(struct reader *r, const char *column, size_t n)
{
    char *copy = text_reserve(&r->gtf.joined, n);
    for (size_t i = 0; i < n; i++)
        copy[i] = column[i] == '\t' ? ' ' : column[i];
    return copy;
}

static void convert(struct reader *r, uint64_t number, const uint32_t *tabs, struct record *record)
{
    const char *line = record->text, *column = line + tabs[ATTRIBUTES - 1] + 1, *stop = line + tabs[ATTRIBUTES];
    size_t n = record->n, before_n = (size_t)(column - line), column_n = (size_t)(stop - column);
    if (r->gtf.is_gff3)
        return;
    struct attributes *all = &r->gtf.attributes;
    bool is_split = column_n < n - before_n;
    if (is_split) {
        column_n = n - before_n;
        column = joined(r, column, column_n);
    }
    attributes_read(all, column, column + column_n);
    r->counts[LINE_COMMENTS] += all->has_comment;
    if (all->is_gff3) {
        r->gtf.identified = true;
        return;
    }
    r->counts[JOINED_COLUMNS] += is_split;
    const char *type = line + tabs[TYPE - 1] + 1;
    size_t type_n = tabs[TYPE] - tabs[TYPE - 1] - 1;
    bool bare = read_bare(all, type, type_n);
    const struct attribute *gene = id_named(all, "gene_id"), *transcript = id_named(all, "transcript_id");
    enum rank rank = rank_of(type, type_n, transcript != NULL);
    /* Every byte of the column at most three times: in its place, in ID or Name and in Parent; and what stands between. */
    size_t bound = n + 3 * (column_n + 2 * all->escapes) + 8 * all->n + 192;
    struct parents *p = &r->gtf.parents;
    struct family of = family_of(r, record, &(struct line){line, tabs, bound, rank, gene, transcript}, bare);
    r->gtf.identified |= gene || transcript;

    uint32_t own = rank == GENE ? of.gene : rank == TRANSCRIPT ? of.transcript : NO_PARENT;
    uint32_t above = rank == GENE ? NO_PARENT : rank == PART && transcript ? of.transcript : of.gene;
    /* An id of another record may be longer than this line. */
    bound += own == NO_PARENT ? 0 : 3 * (size_t)p->names[p->all[own].name].id_n;
    bound += above == NO_PARENT ? 0 : 3 * (size_t)p->names[p->all[above].name].id_n;
    char *from = text_reserve(&r->gtf.converted, bound), *to = write_bytes(from, line, before_n);
    bool separate = false;
    if (own != NO_PARENT) {
        to = write_bytes(to, "ID=", 3);
        to = write_parent_id(to, p, own);
        separate = true;
    }
    if (above != NO_PARENT) {
        if (separate)
            *to++ = ';';
        to = write_bytes(to, "Parent=", 7);
        to = write_parent_id(to, p, above);
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
    record->text = from;
    record->n = (size_t)(to - from);
    if (record->n > MAX_LINE)
        refuse(number, "the line would be longer than %llu bytes in GFF3", (unsigned long long)MAX_LINE);
}

/* --- what has no line --------------------------------------------------------------------------------------------- */

/* A gene's own line: what is added below it shall not stand above it. */
static bool is_first(const char *line, const uint32_t *tabs)
{
    return tabs[TYPE] - tabs[TYPE - 1] == 5 && memcmp(line + tabs[TYPE - 1] + 1, "gene", 4) == 0;
}

static bool added(struct reader *r, uint32_t *next, struct record *record)
{
    struct parents *all = &r->gtf.parents;
    if (*next == 0)
        parents_finish(all);
    /* Twice over the list: genes, then transcripts. */
    const uint32_t most = 2 * all->count;
    for (uint32_t i = *next; i < most; i++) {
        bool transcripts = i >= all->count;
        uint32_t number = transcripts ? i - all->count : i;
        const struct parent *p = &all->all[number];
        if (p->transcript != transcripts || p->present)
            continue;
        const struct parent_name *name = &all->names[p->name];
        const struct about *about = transcripts ? &p->about : &name->about;
        const struct contig *contig = &r->contigs->all[name->contig];
        struct text *to = &r->gtf.converted;
        to->n = 0;
        text_add(to, contig->name, contig->n);
        text_add_word(to, "\t");
        text_add(to, about->bytes, about->source_n);
        text_add_word(to, transcripts ? "\ttranscript\t" : "\tgene\t");
        text_add_number(to, p->start);
        text_add_word(to, "\t");
        text_add_number(to, p->end);
        text_add_word(to, "\t.\t");
        text_add(to, &p->strand, 1);
        text_add_word(to, "\t.\tID=");
        add_parent_id(to, all, number);
        if (p->gene != NO_PARENT) {
            text_add_word(to, ";Parent=");
            add_parent_id(to, all, p->gene);
        }
        if (about->n > about->source_n) {
            text_add_word(to, ";");
            text_add(to, about->bytes + about->source_n, about->n - about->source_n);
        }
        r->counts[transcripts ? ADDED_TRANSCRIPTS : ADDED_GENES]++;
        *record = (struct record){
            .text = to->bytes, .n = to->n, .contig = name->contig, .start = p->start, .end = p->end, .first = true};
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
    free(g->joined.bytes);
    free(g->attributes.all);
    free(g->attributes.unescaped.bytes);
    parents_free(&g->parents);
}

size_t gtf_memory(const struct gtf *g)
{
    return g->converted.room + g->joined.room + g->attributes.room * sizeof *g->attributes.all +
           g->attributes.unescaped.room + g->parents.memory;
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
    .is_first = is_first,
    .convert = convert,
    .added = added,
    .will_add = will_add,
    .check = check,
};
