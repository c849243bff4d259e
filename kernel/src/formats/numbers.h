/* Positions as people spell them. */
#ifndef NUMBERS_H
#define NUMBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Digits as they should be: no sign, no leading zero, at most ten. */
bool plain_number(const char *text, size_t n, uint64_t *value);

enum spelling { SPELT_WHOLE, SPELT_NEGATIVE, SPELT_HUGE, SPELT_NOT_WHOLE };

/*
 * A whole number in any exact spelling: 1e3, 10.0, +7, 007, with spaces around it. `shown` is how it is spelt
 * plainly ("-12", and at most 120 digits), for the rewritten line or the refusal. Values beyond 10^18 are HUGE.
 */
enum spelling exact_number(const char *text, size_t n, uint64_t *value, char shown[128]);

/* How many of the eight bytes at `text` are digits before any other byte, and what they say. */
static inline unsigned leading_digits(const char *text, uint64_t *value)
{
    static const uint64_t ones = 0x0101010101010101u;
    uint64_t word;
    memcpy(&word, text, sizeof word);
    /* The high bit of each byte outside '0' to '9'; above the first such byte, carries may say anything. */
    uint64_t others = ((word + 0x46 * ones) | (word - '0' * ones)) & 0x80 * ones;
    unsigned n = others ? (unsigned)__builtin_ctzll(others) / 8 : 8;
    *value = 0;
    if (!n)
        return 0;
    /* Zeros in front, then neighbours are put together: digits to pairs, to fours, to eight. */
    word = (word & 0x0f * ones) << (64 - 8 * n);
    word = word * 10 + (word >> 8);
    *value = ((word & 0x000000ff000000ffu) * (100 + (1000000ull << 32)) +
              (word >> 16 & 0x000000ff000000ffu) * (1 + (10000ull << 32))) >>
             32;
    return n;
}

#endif
