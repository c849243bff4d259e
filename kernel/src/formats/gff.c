/* GFF2 and GFF3: what their # lines mean (GFF3 spec 1.26, directives). */
#define _GNU_SOURCE
#include "formats/reader.h"

#include <htslib/tbx.h>
#include <string.h>

#include "formats/numbers.h"

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
    if (!starts_with(line, n, "##sequence-region") || at >= n || !is_space(line[at]))
        return false;
    size_t name = next_word(line, n, &at), name_end = at;
    size_t first = next_word(line, n, &at), first_end = at;
    size_t last = next_word(line, n, &at), last_end = at;
    uint64_t start, end;
    if (name == name_end || !whole(line + first, first_end - first, &start) ||
        !whole(line + last, last_end - last, &end) || without_trailing_space(line, n) != last_end)
        return false;
    struct contigs *contigs = r->contigs;
    uint32_t known = contigs_intern(contigs, line + name, name_end - name, r->format->title);
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

bool gff_directive(struct reader *r, uint64_t number, const char *line, size_t n)
{
    size_t length = without_trailing_space(line, n);
    if (length == 7 && memcmp(line, "##FASTA", 7) == 0) {
        r->over = true;
        r->counts[SEQUENCE_LINES]++;
        return true;
    }
    if (length == 3 && memcmp(line, "###", 3) == 0) {
        r->counts[SEPARATOR_LINES]++;
        return true;
    }
    return region(r, number, line, n);
}

static void comment(struct reader *r, uint64_t number, const char *line, size_t n)
{
    if (gff_directive(r, number, line, n))
        return;
    if (r->begun)
        r->counts[COMMENT_LINES]++;
    else
        header_add(r, number, &r->header, line, n);
}

static void finish(struct reader *r, bool any_records, bool as_found, struct text *header)
{
    (void)any_records, (void)as_found;
    text_add(header, r->header.bytes, r->header.n);
}

#define OF_GFF                                                                                                         \
    .tabix = &tbx_conf_gff, .start = 3, .end = 4, .base = 1, .lowest = 1, .fasta = true, .may_have_heading = true,     \
    .comment = comment, .finish = finish

const struct format format_gff = {.name = "gff", .title = "GFF", .columns = 8, OF_GFF};
const struct format format_gff3 = {.name = "gff3", .title = "GFF3", .columns = 9, OF_GFF};
