/*
 * GTF becomes GFF3, line by line: the first eight columns stay, the attributes are spelt as GFF3 spells them, with ID
 * and Parent in front (GTF 2.2; GFF3 spec 1.26).
 *
 * WHO IS WHOSE PARENT. A line whose type ends with "gene" stands for its gene_id; one whose type ends with "RNA",
 * "transcript" or "gene_segment", or a "...gene" other than plain gene that has a transcript_id, for its transcript_id;
 * any other is a part of its transcript, or of its gene when it has no transcript_id. Ids stay as they are, but a
 * transcript with its gene's id (as UCSC's tables have it) is called transcript:ID.
 *
 * WHAT HAS NO LINE of its own but parts gets one (gtf_added): over all its parts, with the source, the strand and the
 * attributes of gene and transcript of the record that named it first. Genes first, then transcripts, each in the order
 * of first mention; in the sorted file they stand before everything else with the same start.
 *
 * ATTRIBUTES: key "value"; or key value; or key=value; in any mixture. Values of one key are joined by commas. A key ID
 * or Parent, which would get in the way, is written in lower case. What GFF3 reserves is written %XX. Text behind a #
 * where a key should be is a comment. A line that has ID= or Parent= is GFF3 already and stays as it is, and so does
 * every line below a ##gff-version 3.
 *
 * processing/gtf.py does the same, byte for byte.
 */
#define _GNU_SOURCE
#include "formats/records.h"

#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "source_limits.h"

enum {
    TYPE = 2,
    STRAND = 6,
    ATTRIBUTES = 8,
    JOINED = 256, /* so many attributes of a line are looked through for equal keys */
};

enum rank { GENE, TRANSCRIPT, PART };

static const char LIKE_GENE[] = "transcript:";

/* What must not stand in a value of column 9 (GFF3 spec, "Description of the format"). */
static const unsigned char reserved[256] = {
    [0 ... 0x1f] = 1, [0x7f] = 1, ['%'] = 1, [';'] = 1, ['='] = 1, ['&'] = 1, [','] = 1,
};

/* --- reading ------------------------------------------------------------------------------------------------- */

static struct attribute *another(struct reader *r)
{
    struct attributes *a = &r->attributes;
    if (a->n == a->room) {
        a->room = a->room ? a->room * 2 : 64;
        a->all = grow(a->all, a->room * sizeof *a->all);
    }
    return &a->all[a->n++];
}

static bool named(const struct attribute *a, const char *key)
{
    return a->key_n == strlen(key) && memcmp(a->key, key, a->key_n) == 0;
}

static uint32_t count_reserved(const char *text, size_t n)
{
    uint32_t found = 0;
    for (size_t i = 0; i < n; i++)
        found += reserved[(unsigned char)text[i]];
    return found;
}

/* Fills r->attributes; whether the line is GFF3 already. */
static bool parse(struct reader *r, const char *p, const char *end)
{
    bool already = false;
    r->attributes.n = r->attributes.escapes = 0;
    if (end - p == 1 && *p == '.')
        return false;
    for (;;) {
        while (p < end && (*p == ' ' || *p == ';'))
            p++;
        if (p == end)
            return already;
        if (*p == '#') {
            r->counts[LINE_COMMENTS]++;
            return already;
        }
        struct attribute *a = another(r);
        a->key = p;
        while (p < end && *p != ' ' && *p != '=' && *p != '"' && *p != ';')
            p++;
        a->key_n = (uint32_t)(p - a->key);
        while (p < end && *p == ' ')
            p++;
        bool equals = p < end && *p == '=';
        if (equals)
            for (p++; p < end && *p == ' ';)
                p++;
        const char *stop;
        if (p < end && *p == '"') {
            a->value = ++p;
            stop = memchr(p, '"', (size_t)(end - p));
            if (!stop)
                stop = end;
            p = stop < end ? stop + 1 : end;
        } else {
            a->value = p;
            stop = memchr(p, ';', (size_t)(end - p));
            if (!stop)
                stop = end;
            p = stop;
            while (stop > a->value && stop[-1] == ' ')
                stop--;
        }
        a->value_n = (uint32_t)(stop - a->value);
        if (!a->key_n) {
            a->key = "note";
            a->key_n = 4;
        }
        a->escapes = count_reserved(a->key, a->key_n) + count_reserved(a->value, a->value_n);
        r->attributes.escapes += a->escapes;
        if (equals && (named(a, "ID") || named(a, "Parent")))
            already = true;
    }
}

/* The first of that name that says something, or NULL. */
static const struct attribute *find(const struct attributes *of, const char *key)
{
    for (size_t i = 0; i < of->n; i++)
        if (named(&of->all[i], key) && of->all[i].value_n)
            return &of->all[i];
    return NULL;
}

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

/* --- writing ------------------------------------------------------------------------------------------------- */

/* All of these write where room was made before. */
static char *put(char *to, const char *from, size_t n)
{
    memcpy(to, from, n);
    return to + n;
}

static char *put_escaped(char *to, const char *from, size_t n, bool any)
{
    static const char digits[] = "0123456789ABCDEF";
    if (!any)
        return put(to, from, n);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)from[i];
        if (!reserved[c]) {
            *to++ = (char)c;
        } else {
            *to++ = '%';
            *to++ = digits[c >> 4];
            *to++ = digits[c & 15];
        }
    }
    return to;
}

static char *put_value(char *to, const struct attribute *a)
{
    return put_escaped(to, a->value, a->value_n, a->escapes);
}

static char *put_key(char *to, const struct attribute *a)
{
    if (named(a, "ID"))
        return put(to, "id", 2);
    if (named(a, "Parent"))
        return put(to, "parent", 6);
    return put_escaped(to, a->key, a->key_n, a->escapes);
}

static bool same_key(const struct attribute *a, const struct attribute *b)
{
    return a->key_n == b->key_n && memcmp(a->key, b->key, a->key_n) == 0;
}

/* Of synthesised lines: only what is about the gene, or about the gene and the transcript. */
static bool left_out(const struct attribute *a, enum rank only)
{
    return (only == GENE || only == TRANSCRIPT) && !starts_with(a->key, a->key_n, "gene") &&
           !(only == TRANSCRIPT && starts_with(a->key, a->key_n, "transcript"));
}

static char *put_attributes(char *to, const struct attributes *of, enum rank only, bool separate)
{
    size_t most = of->n < JOINED ? of->n : JOINED;
    bool written[JOINED] = {false};
    for (size_t i = 0; i < of->n; i++) {
        const struct attribute *a = &of->all[i];
        if ((i < most && written[i]) || left_out(a, only))
            continue;
        if (separate)
            *to++ = ';';
        separate = true;
        to = put_key(to, a);
        *to++ = '=';
        to = put_value(to, a);
        for (size_t j = i + 1; j < most; j++)
            if (same_key(a, &of->all[j])) {
                written[j] = true;
                *to++ = ',';
                to = put_value(to, &of->all[j]);
            }
    }
    return to;
}

static char *room_for(struct text *t, size_t n)
{
    if (n > t->room) {
        t->room = n;
        t->bytes = grow(t->bytes, n);
    }
    return t->bytes;
}

/* --- lines --------------------------------------------------------------------------------------------------- */

/* What a line of its own would say, from the record that names this gene or transcript for the first time. */
static void describe(struct reader *r, uint32_t number, const char *line, const uint32_t *tabs, size_t bound)
{
    struct parent *parent = &r->parents.all[number];
    if (parent->about)
        return;
    struct text about = {0};
    char *from = room_for(&about, bound), *to = from;
    uint32_t source = tabs[0] + 1;
    parent->source_n = tabs[1] - source;
    to = put(to, line + source, parent->source_n);
    to = put_attributes(to, &r->attributes, parent->transcript ? TRANSCRIPT : GENE, false);
    parent->about_n = (uint32_t)(to - from);
    parent->about = contigs_keep(r->contigs, from, parent->about_n);
    parent->strand = tabs[STRAND] - tabs[STRAND - 1] == 2 ? line[tabs[STRAND] - 1] : '.';
    free(about.bytes);
}

void gtf_record(struct reader *r, uint64_t number, const uint32_t *tabs, struct record *record)
{
    const char *line = record->text, *column = line + tabs[ATTRIBUTES - 1] + 1, *stop = line + tabs[ATTRIBUTES];
    size_t n = record->n, column_n = (size_t)(stop - column);
    if (parse(r, column, stop)) {
        r->identified = true;
        return;
    }
    const struct attributes *all = &r->attributes;
    const struct attribute *gene = find(all, "gene_id"), *transcript = find(all, "transcript_id");
    const char *type = line + tabs[TYPE - 1] + 1;
    enum rank rank = rank_of(type, tabs[TYPE] - tabs[TYPE - 1] - 1, transcript != NULL);
    bool like_gene = gene && transcript && gene->value_n == transcript->value_n &&
                     memcmp(gene->value, transcript->value, gene->value_n) == 0;
    /* Every byte of the column at most three times: in its place, in ID and in Parent; and what stands between. */
    size_t bound = n + 3 * (column_n + 2 * all->escapes) + 8 * all->n + 64;

    uint32_t of_gene = NO_PARENT, of_transcript = NO_PARENT;
    if (gene) {
        of_gene =
            parents_number(&r->parents, false, record->contig, gene->value, gene->value_n, record->start, record->end);
        if (rank == GENE)
            parents_present(&r->parents, of_gene);
        else if (!r->parents.all[of_gene].present)
            describe(r, of_gene, line, tabs, bound);
    }
    if (transcript && rank != GENE) {
        of_transcript = parents_number(&r->parents, true, record->contig, transcript->value, transcript->value_n,
                                       record->start, record->end);
        struct parent *parent = &r->parents.all[of_transcript];
        if (rank == TRANSCRIPT) {
            parents_present(&r->parents, of_transcript);
        } else if (!parent->present && !parent->about) {
            parent->gene = of_gene;
            parent->like_gene = like_gene;
            describe(r, of_transcript, line, tabs, bound);
        }
    }
    r->identified |= gene || transcript;

    char *from = room_for(&r->made, bound), *to = put(from, line, (size_t)(column - line));
    bool separate = false;
    if (rank == GENE ? gene != NULL : rank == TRANSCRIPT) {
        const struct attribute *own = rank == GENE ? gene : transcript;
        to = put(to, "ID=", 3);
        if (rank == TRANSCRIPT && like_gene)
            to = put(to, LIKE_GENE, sizeof LIKE_GENE - 1);
        to = put_value(to, own);
        separate = true;
    }
    const struct attribute *above = rank == PART && transcript ? transcript : rank == GENE ? NULL : gene;
    if (above) {
        if (separate)
            *to++ = ';';
        to = put(to, "Parent=", 7);
        if (above == transcript && like_gene)
            to = put(to, LIKE_GENE, sizeof LIKE_GENE - 1);
        to = put_value(to, above);
        separate = true;
    }
    char *before = to;
    to = put_attributes(to, all, PART, separate);
    if (to == before && !separate)
        *to++ = '.';
    to = put(to, stop, (size_t)(line + n - stop));
    record->text = from;
    record->n = (size_t)(to - from);
    if (record->n > MAX_LINE)
        refuse(number, "the line would be longer than %llu bytes in GFF3", (unsigned long long)MAX_LINE);
}

/* Column 9 of what has no line. */
static void add_escaped(struct text *to, const char *bytes, size_t n)
{
    struct text made = {0};
    char *from = room_for(&made, 3 * n + 1), *end = put_escaped(from, bytes, n, true);
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

bool gtf_added(struct reader *r, uint32_t *next, struct record *record)
{
    const struct parents *all = &r->parents;
    /* Twice over the list: genes, then transcripts. */
    for (; *next < 2 * all->count; ++*next) {
        bool transcripts = *next >= all->count;
        const struct parent *p = &all->all[transcripts ? *next - all->count : *next];
        if (p->transcript != transcripts || p->present)
            continue;
        const struct contig *contig = &r->contigs->all[p->contig];
        struct text *to = &r->made;
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
        ++*next;
        return true;
    }
    return false;
}
