/* Lines among the records that belong to something else: they are dropped and counted, and no record is taken for one. */
#ifndef FOREIGN_LINES_H
#define FOREIGN_LINES_H

#include "formats/reader.h"

/* `track` and `browser` lines of the UCSC browser, unless it is a record on a sequence of that name. */
bool display_line(const struct format *format, const char *line, size_t n);

/* A line of the sequences that follow the records (GFF3); where records go on behind them, files were concatenated. */
bool sequence_line(struct reader *reader, uint64_t number, const char *line, size_t n);

#endif
