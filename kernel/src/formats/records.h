/*
 * What a line of each format must be, and how odd ones are put right.
 *
 * The rules, their counts' names and their words are those of the service's Python normaliser, line by line
 * (kernel/tests compares the two): whichever of them runs, the user sees the same outcome.
 */
#ifndef RECORDS_H
#define RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/parents.h"

#define MAX_COORDINATE 2147483647u /* readers in the browser hold positions in 32 bits */

/* What may be changed or dropped; names in records.c. */
enum oddity {
    BYTE_ORDER_MARK,
    CARRIAGE_RETURNS,
    BLANK_LINES,
    COMMENT_LINES,
    DISPLAY_LINES,
    HEADING_LINES,
    REPEATED_HEADER_LINES,
    REPLACED_HEADER_LINES,
    ADDED_HEADER_LINES,
    SEPARATOR_LINES,
    SEQUENCE_LINES,
    SPACED_LINES,
    RESPELT_COORDINATES,
    LINE_COMMENTS,
    ADDED_GENES,
    ADDED_TRANSCRIPTS,
    ODDITIES,
};
extern const char *const oddity_names[ODDITIES];

enum family { BED, GFF, VCF };

struct format {
    const char *name;  /* on the command line */
    const char *title; /* for people */
    enum family family;
    int columns;     /* at least; UCSC's format pages, GFF3 spec, VCFv4.5 1.6 */
    int start, end;  /* columns from 0; VCF has no end column */
    uint32_t lowest; /* legal start */
    bool transcoded; /* GTF: what comes out is GFF3 */
};

const struct format *format_named(const char *name); /* NULL: no such */

/* One record as it will be written, valid until the next line is read. `start` and `end` are as in its columns. */
struct record {
    const char *text; /* without newline */
    size_t n;
    uint32_t contig;
    uint32_t start;
    uint32_t end; /* VCF: the last base by REF, INFO END and SVLEN */
    bool added;   /* not of the source: stands before all that start with it */
};

/* One attribute of a GTF's line, in that line. */
struct attribute {
    const char *key, *value;
    uint32_t key_n, value_n;
    uint32_t escapes; /* bytes of it that GFF3 reserves */
};

struct attributes {
    struct attribute *all;
    size_t n, room, escapes;
};

struct text {
    char *bytes;
    size_t n, room;
};
void text_add(struct text *text, const void *bytes, size_t n);

struct reader {
    const struct format *format;
    struct contigs *contigs;
    uint64_t counts[ODDITIES];
    bool begun;                     /* a record was seen */
    bool over;                      /* nothing after this is a record (GFF3: FASTA) */
    bool spaced;                    /* the first record's columns are split by spaces */
    bool header_grew;               /* a header line was added, or became necessary, below the first record */
    struct text header;             /* lines with their newlines */
    struct text fileformat, titles; /* VCF: its first and last header line */
    bool has_vcf_version;
    uint32_t *declared; /* contig numbers in the order of their declarations */
    uint32_t declared_count, declared_room;
    uint32_t *lacking; /* VCF: those that records name and no line declares, though one could */
    uint32_t lacking_count, lacking_room;
    uint32_t lacking_told;        /* of them in the counts */
    size_t lacking_bytes;         /* of their lines */
    struct text line;             /* a record that had to be rewritten */
    struct parents parents;       /* of a GTF, and all below too */
    struct attributes attributes; /* of the line at hand */
    struct text made;             /* that line in GFF3 */
    bool as_is;                   /* it is GFF3 already */
    bool headed;                  /* its first line was added */
    bool identified;              /* some line has an id */
};

void reader_start(struct reader *reader, const struct format *format, struct contigs *contigs);

void reader_free(struct reader *reader);

/* Judge one line; whether it is a record. What breaks the format ends the process with the line's number. */
bool reader_line(struct reader *reader, uint64_t number, const char *line, size_t n, struct record *record);

/* Judge a line that is known to be a record this reader has given before. */
bool reader_record(struct reader *reader, uint64_t number, const char *line, size_t n, struct record *record);

/*
 * The header as it stands above the records, with what readers need of it. Call it after the last line; before that it
 * is the header for what was read so far. `as_found`: without lines for sequences that none declares.
 */
void reader_finish(struct reader *reader, bool any_records, bool as_found, struct text *header);

/*
 * Records that the source lacks, one a call while there are some; call after the last line. `next` starts at 0.
 */
bool reader_added(struct reader *reader, uint32_t *next, struct record *record);

size_t reader_memory(const struct reader *reader); /* bytes held, but what the contigs count */

bool reader_has_header(const struct reader *reader);

/* The half-open interval from 0 that the index holds for a record. */
void format_interval(const struct format *format, uint32_t start, uint32_t end, int64_t *from, int64_t *to);

/* For the formats' own files. */
void header_add(struct reader *reader, uint64_t number, struct text *to, const char *line, size_t n);
void declare(struct reader *reader, const char *name, size_t n, bool has_length, uint64_t length, bool again);
bool starts_with(const char *line, size_t n, const char *what);
size_t without_trailing_space(const char *line, size_t n);

void vcf_comment(struct reader *reader, uint64_t number, const char *line, size_t n);
void vcf_first_record(struct reader *reader, uint64_t number, const char *line, size_t n);
uint32_t vcf_end(uint64_t number, uint32_t start, const char *line, const uint32_t *tabs, size_t n);
void vcf_finish(struct reader *reader, bool any_records, bool as_found, struct text *header);
void vcf_lacks(struct reader *reader, uint32_t contig); /* a record on a sequence that no line declares */
void gtf_record(struct reader *reader, uint64_t number, const uint32_t *tabs, struct record *record);
bool gtf_added(struct reader *reader, uint32_t *next, struct record *record);
void gff_comment(struct reader *reader, uint64_t number, const char *line, size_t n);

#endif
