/* The columns of a line that TABs split. */
#ifndef COLUMNS_H
#define COLUMNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the first `wanted` columns end; how many were found. */
int columns_of(const char *line, size_t n, int wanted, uint32_t *tabs);

/* The column of starts says that a line has the headings of columns: "start", "chromStart", "txStart", "Start (bp)". */
bool is_heading(const char *field, size_t n);

#endif
