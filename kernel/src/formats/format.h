/* The formats: what a line of each must be, as numbers and functions. formats.c lists them, their own files define them. */
#ifndef FORMAT_H
#define FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/text.h"

struct reader;
struct tbx_conf_t;

/* One record as it will be written, valid until the next line is read. `start` and `end` are as in its columns. */
struct record {
    const char *text; /* without newline */
    size_t n;
    uint32_t contig;
    uint32_t start;
    uint32_t end;        /* VCF: the last base by REF, INFO END and SVLEN, FORMAT LEN */
    bool first;          /* stands before all others that start with it */
    bool ends_elsewhere; /* `end` is a place on another sequence: only the index, which follows htslib, reaches there */
};

struct format {
    const char *name;               /* on the command line */
    const char *title;              /* for people */
    const struct tbx_conf_t *tabix; /* how an index describes it */
    int columns;                    /* at least; UCSC's format pages, GFF3 spec, VCFv4.5 1.6 */
    int start, end;                 /* columns from 0; VCF has no end column: -1 */
    uint32_t base;                  /* the number of a sequence's first base: 0 in BED, else 1 */
    uint32_t lowest;                /* legal start; VCF's 0 is the telomere */
    bool fasta;                     /* sequences may follow the records, from a line with > on */
    bool may_be_spaced;    /* columns may be split by white space of any kind; there is a column of ends then */
    bool may_have_heading; /* a line may name the columns */

    /* Judge a line that starts with #: it joins the header, or is counted and dropped. */
    void (*comment)(struct reader *reader, uint64_t number, const char *line, size_t n);

    /* The header above the records (reader_finish). */
    void (*finish)(struct reader *reader, bool any_records, bool as_found, struct text *header);

    /* What a format does not need is NULL. */

    /* Judge a record's columns by the header, and the header by the first record. `tabs`: where its columns end. */
    bool (*judge_columns)(struct reader *reader, uint64_t number, const char *line, size_t n, const uint32_t *tabs);

    /* The end of a record that has no column for it; `tabs`: where its columns end. `elsewhere`: on another sequence. */
    uint64_t (*end_of)(uint32_t start, const char *line, size_t n, const uint32_t *tabs, bool *elsewhere);

    /* A record on a sequence that no header line declares. */
    void (*undeclared)(struct reader *reader, uint32_t contig);

    /* Whether a record stands before others that start with it, whose order else stays; as it is read or written. */
    bool (*is_first)(const char *line, const uint32_t *tabs);

    /* Another format comes out: rewrite the record. */
    void (*convert)(struct reader *reader, uint64_t number, const uint32_t *tabs, struct record *record);

    /* Records that the source lacks (reader_added). */
    bool (*added)(struct reader *reader, uint32_t *next, struct record *record);

    /* Whether the header or the records will have lines, by what is known now, that are not in the source. */
    bool (*will_add)(const struct reader *reader);

    /* Refuse a source whose records, taken together, are not of this format. */
    void (*check)(const struct reader *reader);
};

extern const struct format format_bed, format_narrowpeak, format_broadpeak, format_gappedpeak, format_tagalign,
    format_interact, format_gff, format_gff3, format_gtf, format_vcf;

const struct format *format_named(const char *name); /* NULL: no such */

/* The half-open interval from 0 that the index holds for a record. */
static inline void format_interval(const struct format *format, uint32_t start, uint32_t end, int64_t *from,
                                   int64_t *to)
{
    *from = start > format->base ? start - format->base : 0;
    /* An empty BED interval is found as the base it stands before. */
    *to = (int64_t)end > *from ? end : *from + 1;
}

#endif
