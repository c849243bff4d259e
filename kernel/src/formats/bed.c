/* BED and its kin (UCSC's format pages): columns that may be split by spaces, lines of headings, # as comments. */
#include <htslib/tbx.h>

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

#define OF_BED                                                                                                         \
    .tabix = &tbx_conf_bed, .start = 1, .end = 2, .comment = comment, .finish = finish, .may_be_spaced = true,         \
    .may_have_heading = true

const struct format format_bed = {.name = "bed", .title = "BED", .columns = 3, OF_BED};
const struct format format_narrowpeak = {.name = "narrowpeak", .title = "narrowPeak", .columns = 9, OF_BED};
const struct format format_broadpeak = {.name = "broadpeak", .title = "broadPeak", .columns = 9, OF_BED};
const struct format format_gappedpeak = {.name = "gappedpeak", .title = "gappedPeak", .columns = 15, OF_BED};
const struct format format_tagalign = {.name = "tagalign", .title = "tagAlign", .columns = 6, OF_BED};
const struct format format_interact = {.name = "interact", .title = "interact", .columns = 18, OF_BED};
