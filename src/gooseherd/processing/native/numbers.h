/* Positions as people spell them. */
#ifndef NUMBERS_H
#define NUMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Digits as they should be: no sign, no leading zero, at most ten. */
bool plain_number(const char *text, size_t n, uint64_t *value);

enum spelling { SPELT_WHOLE, SPELT_NEGATIVE, SPELT_HUGE, SPELT_NOT_WHOLE };

/*
 * A whole number in any exact spelling: 1e3, 10.0, +7, 007, with spaces around it. `shown` is how it is spelt
 * plainly ("-12", and at most 120 digits), for the rewritten line or the refusal. Values beyond 10^18 are HUGE.
 */
enum spelling exact_number(const char *text, size_t n, uint64_t *value, char shown[128]);

#endif
