/* See odd_columns.h. */
#include "formats/odd_columns.h"

#include <string.h>

#include "formats/columns.h"
#include "formats/numbers.h"
#include "source_limits.h"

bool read_coordinate(struct reader *r, uint64_t number, const char *text, size_t n, int column, struct coordinate *c)
{
    uint64_t value = 0;
    c->respelt = false;
    if (!plain_number(text, n, &value)) {
        enum spelling how = exact_number(text, n, &value, c->plain);
        if (how == SPELT_NOT_WHOLE)
            return bad_line(r, number, "column %d is '%.*s', which is not a whole number", column + 1,
                            n > 40 ? 40 : (int)n, text);
        if (how == SPELT_NEGATIVE)
            return bad_line(r, number, "position %s in column %d is below %u", c->plain, column + 1, r->format->lowest);
        if (how == SPELT_HUGE)
            return bad_line(r, number, "position %s in column %d is above %u", c->plain, column + 1, MAX_COORDINATE);
        c->respelt = true;
    }
    if (value < r->format->lowest)
        return bad_line(r, number, "position %u in column %d is below %u", (unsigned)value, column + 1,
                        r->format->lowest);
    if (value > MAX_COORDINATE)
        return bad_line(r, number, "position %llu in column %d is above %u", (unsigned long long)value, column + 1,
                        MAX_COORDINATE);
    c->value = (uint32_t)value;
    r->counts[RESPELT_COORDINATES] += c->respelt;
    return true;
}

static bool is_position(const char *text, size_t n)
{
    uint64_t value;
    char plain[128];
    return plain_number(text, n, &value) || exact_number(text, n, &value, plain) != SPELT_NOT_WHOLE;
}

bool makes_record(const struct format *format, const char *line, const uint32_t *tabs, int found)
{
    uint32_t start = tabs[format->start - 1] + 1, end = tabs[format->end - 1] + 1;
    return found >= format->columns && is_position(line + start, tabs[format->start] - start) &&
           is_position(line + end, tabs[format->end] - end);
}

int split_at_spaces(struct reader *r, const char *line, size_t n, int found, uint32_t *tabs)
{
    uint32_t at[MOST_COLUMNS] = {0};
    int words = 0;
    r->line.n = 0;
    for (size_t from, to = 0; (from = next_word(line, n, &to)) < to; words++) {
        if (words)
            text_add(&r->line, "\t", 1);
        text_add(&r->line, line + from, to - from);
    }
    int columns = columns_of(r->line.bytes, r->line.n, r->format->columns, at);
    bool enough = words >= r->format->columns;
    if (!(found == 1 && words > 1) &&
        !(enough && (found < r->format->columns || makes_record(r->format, r->line.bytes, at, columns))))
        return 0;
    memcpy(tabs, at, sizeof at);
    return columns;
}
