/* GFF2 and GFF3: what their # lines mean (GFF3 spec 1.26, directives). */
#define _GNU_SOURCE
#include "formats/records.h"

#include <stdlib.h>
#include <string.h>

#include "formats/numbers.h"

static bool blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static size_t word(const char *line, size_t n, size_t *at)
{
    while (*at < n && blank(line[*at]))
        ++*at;
    size_t from = *at;
    while (*at < n && !blank(line[*at]))
        ++*at;
    return from;
}

static bool whole(const char *text, size_t n, uint64_t *value)
{
    *value = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        *value = *value * 10 + (uint64_t)(text[i] - '0');
    }
    return n > 0 && n <= 10;
}

/* ##sequence-region NAME START END. */
static bool region(struct reader *r, uint64_t number, const char *line, size_t n)
{
    size_t at = strlen("##sequence-region");
    if (!starts_with(line, n, "##sequence-region") || at >= n || !blank(line[at]))
        return false;
    size_t name = word(line, n, &at), name_end = at;
    size_t first = word(line, n, &at), first_end = at;
    size_t last = word(line, n, &at), last_end = at;
    uint64_t start, end;
    if (name == name_end || !whole(line + first, first_end - first, &start) ||
        !whole(line + last, last_end - last, &end) || without_trailing_space(line, n) != last_end)
        return false;
    struct contigs *contigs = r->contigs;
    uint32_t known = contigs_number(contigs, line + name, name_end - name, r->format->title);
    if (contigs->all[known].declared) {
        r->counts[COMMENT_LINES]++; /* the first one stands */
        return true;
    }
    declare(r, line + name, name_end - name, true, end, false);
    /* It may stand anywhere; a reader of the sorted file looks for it on top. */
    header_add(r, number, &r->header, line, n);
    r->header_grew = r->begun;
    return true;
}

/* What a GTF says of its own format, which is about to change. */
static bool about_format(struct reader *r, const char *line, size_t n)
{
    size_t length = without_trailing_space(line, n), at = strlen("##gff-version");
    if (starts_with(line, n, "##gff-version") && at < length && blank(line[at])) {
        size_t version = word(line, length, &at);
        r->as_is |= at == length && at - version == 1 && line[version] == '3';
        return !r->as_is;
    }
    return length == 13 && memcmp(line, "##format: gtf", 13) == 0;
}

void gff_comment(struct reader *r, uint64_t number, const char *line, size_t n)
{
    size_t length = without_trailing_space(line, n);
    if (length == 7 && memcmp(line, "##FASTA", 7) == 0) {
        r->over = true;
        r->counts[SEQUENCE_LINES]++;
    } else if (length == 3 && memcmp(line, "###", 3) == 0) {
        r->counts[SEPARATOR_LINES]++;
    } else if (region(r, number, line, n)) {
        return;
    } else if (r->begun) {
        r->counts[COMMENT_LINES]++;
    } else if (r->format->transcoded && !r->as_is && about_format(r, line, n)) {
        r->counts[REPLACED_HEADER_LINES]++;
    } else {
        header_add(r, number, &r->header, line, n);
    }
}
