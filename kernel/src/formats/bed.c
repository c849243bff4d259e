/* BED and its kin (UCSC's format pages): columns that may be split by spaces, a line of headings, # as comments. */
#include <htslib/tbx.h>
#include <string.h>
#include <strings.h>

#include "formats/reader.h"

static void comment(struct reader *r, uint64_t number, const char *line, size_t n)
{
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

static bool is_heading(const char *field, size_t n)
{
    static const char *const words[] = {"start", "chromstart", "chrom_start", "begin"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i]) == n && strncasecmp(field, words[i], n) == 0)
            return true;
    return false;
}

static int split_at_spaces(struct reader *r, const char *line, size_t n)
{
    int columns = 0;
    r->line.n = 0;
    for (size_t at = 0; at < n;) {
        size_t from = next_word(line, n, &at);
        if (at == from)
            break;
        if (columns++)
            text_add(&r->line, "\t", 1);
        text_add(&r->line, line + from, at - from);
    }
    return columns;
}

#define OF_BED                                                                                                         \
    .tabix = &tbx_conf_bed, .start = 1, .end = 2, .comment = comment, .finish = finish, .is_heading = is_heading,      \
    .split_at_spaces = split_at_spaces

const struct format format_bed = {.name = "bed", .title = "BED", .columns = 3, OF_BED};
const struct format format_narrowpeak = {.name = "narrowpeak", .title = "narrowPeak", .columns = 10, OF_BED};
const struct format format_broadpeak = {.name = "broadpeak", .title = "broadPeak", .columns = 9, OF_BED};
