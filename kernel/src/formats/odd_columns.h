/* Columns as people write them: positions in any spelling, white space in place of TABs. */
#ifndef ODD_COLUMNS_H
#define ODD_COLUMNS_H

#include "formats/reader.h"

enum { MOST_COLUMNS = 20 };

struct coordinate {
    uint32_t value;
    bool respelt;
    char plain[128];
};

/* False: it is none, and the line is a bad one (bad_line). */
bool read_coordinate(struct reader *r, uint64_t number, const char *text, size_t n, int column, struct coordinate *c);

/* Whether these columns are enough, with numbers where positions belong. */
bool makes_record(const struct format *format, const char *line, const uint32_t *tabs, int found);

/*
 * A line whose columns at TABs make no record: split at any white space, into reader->line, if they do so then, or if it
 * has no TAB. How many columns were found, with `tabs`; 0: the line stays as it is.
 */
int split_at_spaces(struct reader *r, const char *line, size_t n, int found, uint32_t *tabs);

#endif
