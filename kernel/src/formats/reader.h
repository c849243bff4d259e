/*
 * Judges lines: what is a record, what belongs to the header, and how odd ones are put right.
 *
 * The rules, their counts' names and their words are those of the service's Python normaliser, line by line
 * (kernel/tests compares the two): whichever of them runs, the user sees the same outcome. What is special about a
 * format is in its own file (format.h).
 */
#ifndef READER_H
#define READER_H

#include "formats/contigs.h"
#include "formats/format.h"
#include "formats/gtf.h"
#include "formats/vcf.h"
#include "source_limits.h"

#define MAX_COORDINATE 2147483647u /* readers in the browser hold positions in 32 bits */

/* What may be changed or dropped; names in reader.c. */
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
    RESPELT_TITLES,
    JOINED_COLUMNS,
    WIDE_RECORDS, /* which stay as they are */
    BAD_LINES,
    ODDITIES,
};
extern const char *const oddity_names[ODDITIES];

/* Lines in place of records that make none, as far as they are left out. */
struct bad_lines {
    uint64_t numbers[MOST_BAD_LINES];
    uint32_t count;
    char first[400]; /* what is wrong with the first of them, as a failure's detail says it */
};

struct reader {
    const struct format *format;
    struct contigs *contigs;
    uint64_t counts[ODDITIES];
    bool skip_bad_lines; /* or else the first of them ends the process */
    bool begun;          /* a record was seen */
    bool over;           /* among sequences that follow the records (GFF3: FASTA) */
    bool header_grew;    /* a header line was added, or became necessary, below the first record */
    struct text header;  /* lines with their newlines */
    size_t header_bytes;
    uint32_t *declared; /* contig numbers in the order of their declarations */
    uint32_t declared_count, declared_room;
    struct text line; /* a record that had to be rewritten */
    struct vcf vcf;   /* what only a VCF has */
    struct gtf gtf;   /* what only a GTF has */
    struct bad_lines bad;
};

void reader_start(struct reader *reader, const struct format *format, struct contigs *contigs);
void reader_free(struct reader *reader);

/* Judge one line; whether it is a record. What breaks the format ends the process with the line's number. */
bool reader_line(struct reader *reader, uint64_t number, const char *line, size_t n, struct record *record);

/* A record that this reader has given before, as it was written: nothing of it is converted. */
bool reader_written_record(struct reader *reader, uint64_t number, const char *line, size_t n, struct record *record);

/* After the last line: refuse a source whose records, `any` of them, are not of this format taken together. */
void reader_check(const struct reader *reader, bool any_records);

/*
 * The header as it stands above the records, with what programs need of it. Call it after the last line; before that it
 * is the header for what was read so far. `as_found`: without lines for sequences that none declares.
 */
void reader_finish(struct reader *reader, bool any_records, bool as_found, struct text *header);

/* Records that the source lacks, one a call while there are some; call after the last line. `next` starts at 0. */
bool reader_added(struct reader *reader, uint32_t *next, struct record *record);

bool reader_will_add(const struct reader *reader); /* lines that the source lacks, by what is known now */
bool reader_changed(const struct reader *reader);  /* anything was changed or dropped so far */
bool reader_converts(const struct reader *reader); /* what comes out is of another format */
size_t reader_memory(const struct reader *reader); /* bytes held, but what the contigs count */

/* Whether anything stands there beside records, although it may not have been kept. */
static inline bool reader_has_header(const struct reader *reader)
{
    return reader->header_bytes || reader->declared_count || reader->counts[DISPLAY_LINES] ||
           reader->counts[HEADING_LINES] || reader->counts[REPLACED_HEADER_LINES];
}

/* --- for the formats' own files ------------------------------------------------------------------------------------- */

/* A line that makes no record: what is wrong with it. False, if such lines are left out. */
bool bad_line(struct reader *reader, uint64_t number, const char *format, ...) __attribute__((format(printf, 3, 4)));

void header_add(struct reader *reader, uint64_t number, struct text *to, const char *line, size_t n);
void declare(struct reader *reader, const char *name, size_t n, bool has_length, uint64_t length, bool again);

/* Directives that GFF3 and GTF share; whether it was one, which is dealt with then. */
bool gff_directive(struct reader *reader, uint64_t number, const char *line, size_t n);

#endif
