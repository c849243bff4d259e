/* See columns.h. */
#define _GNU_SOURCE
#include "formats/columns.h"

#include <string.h>

int columns_of(const char *line, size_t n, int wanted, uint32_t *tabs)
{
    const char *p = line, *end = line + n;
    for (int found = 0; found < wanted; found++) {
        const char *tab = memchr(p, '\t', (size_t)(end - p));
        tabs[found] = (uint32_t)((tab ? tab : end) - line);
        if (!tab)
            return found + 1;
        p = tab + 1;
    }
    return wanted;
}

bool is_heading(const char *field, size_t n)
{
    static const char *const whole[] = {"beg", "from", "left", "pos"}, *const parts[] = {"start", "begin", "position"};
    char letters[32];
    size_t some = 0;
    if (n && *field >= '0' && *field <= '9')
        return false;
    for (size_t i = 0; i < n && some < sizeof letters; i++) {
        char letter = (char)(field[i] | 0x20);
        if (letter >= 'a' && letter <= 'z')
            letters[some++] = letter;
    }
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (some == strlen(whole[i]) && memcmp(letters, whole[i], some) == 0)
            return true;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (memmem(letters, some, parts[i], strlen(parts[i])))
            return true;
    return false;
}
