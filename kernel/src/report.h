/* Tells the caller: progress while it runs, one JSON document at the end. */
#ifndef REPORT_H
#define REPORT_H

#include <stdio.h>

#include "pass.h"

/* One value of a JSON document; names in files are any bytes, JSON is UTF-8. */
void json_string(FILE *to, const char *bytes, size_t n);

/* Keep what writing a report needs, so that one can be written when memory has run out. */
void report_reserve(void);

/*
 * Write the report: of success when `failure` is NULL. A path gets it whole or not at all. Whether that worked.
 */
bool report_write(const char *target, struct pass *pass, const struct failure *failure);

#endif
