/* See numbers.h. No floating point: 2147483647.0 must stay what it is, and 0.1e1 is 1. */
#include "formats/numbers.h"

#include <stdio.h>
#include <string.h>

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

bool plain_number(const char *text, size_t n, uint64_t *value)
{
    if (n == 0 || n > 10 || (text[0] == '0' && n > 1))
        return false;
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        if (!digit(text[i]))
            return false;
        v = v * 10 + (uint64_t)(text[i] - '0');
    }
    *value = v;
    return true;
}

enum { WHOLE_DIGITS = 20, PART_DIGITS = 20, POWER_DIGITS = 2 };

enum spelling exact_number(const char *text, size_t n, uint64_t *value, char shown[128])
{
    const char *p = text, *end = text + n;
    char digits[WHOLE_DIGITS + PART_DIGITS];
    int count = 0, whole = 0, power = 0;
    bool negative = false;
    while (p < end && *p == ' ')
        p++;
    while (end > p && end[-1] == ' ')
        end--;
    if (p < end && (*p == '+' || *p == '-'))
        negative = *p++ == '-';
    for (; p < end && digit(*p) && whole < WHOLE_DIGITS; whole++)
        digits[count++] = *p++;
    if (!whole)
        return SPELT_NOT_WHOLE;
    if (p < end && *p == '.')
        for (p++; p < end && digit(*p) && count - whole < PART_DIGITS;)
            digits[count++] = *p++;
    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;
        bool down = p < end && *p == '-';
        if (p < end && (*p == '+' || *p == '-'))
            p++;
        const char *from = p;
        for (; p < end && digit(*p) && p - from < POWER_DIGITS; p++)
            power = power * 10 + (*p - '0');
        if (p == from)
            return SPELT_NOT_WHOLE;
        power = down ? -power : power;
    }
    if (p != end)
        return SPELT_NOT_WHOLE;
    /* The number is 0.DIGITS times ten to the `point`: whole when nothing but zeros stands behind that place. */
    int point = whole + power, first = 0;
    for (int i = point < 0 ? 0 : point; i < count; i++)
        if (digits[i] != '0')
            return SPELT_NOT_WHOLE;
    while (first < count && first < point && digits[first] == '0')
        first++;
    bool zero = first >= count || first >= point;
    int length = 0;
    if (negative && !zero)
        shown[length++] = '-';
    for (int i = first; !zero && i < point; i++)
        shown[length++] = i < count ? digits[i] : '0';
    if (zero)
        shown[length++] = '0';
    shown[length] = 0;
    if (zero) {
        *value = 0;
        return SPELT_WHOLE;
    }
    if (negative)
        return SPELT_NEGATIVE;
    if (length > 18)
        return SPELT_HUGE;
    *value = 0;
    for (int i = 0; i < length; i++)
        *value = *value * 10 + (uint64_t)(shown[i] - '0');
    return SPELT_WHOLE;
}
