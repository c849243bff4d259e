/* See foreign_lines.h. */
#include "formats/foreign_lines.h"

#include <string.h>

#include "failure.h"

/* Whether the columns of its positions are there and hold whole numbers. */
static bool has_positions(const struct format *format, const char *line, size_t n)
{
    const char *p = line, *end = line + n;
    for (int column = 0; column <= (format->end > 0 ? format->end : format->start); column++) {
        const char *tab = memchr(p, '\t', (size_t)(end - p)), *stop = tab ? tab : end;
        if (column >= format->start) {
            const char *digit = p;
            while (digit < stop && *digit >= '0' && *digit <= '9')
                digit++;
            if (digit == p || digit != stop)
                return false;
        }
        if (!tab)
            return column == (format->end > 0 ? format->end : format->start);
        p = tab + 1;
    }
    return true;
}

bool display_line(const struct format *format, const char *line, size_t n)
{
    size_t word = starts_with(line, n, "track") ? 5 : starts_with(line, n, "browser") ? 7 : 0;
    return word && (n == word || line[word] == ' ' || line[word] == '\t') && !has_positions(format, line, n);
}

/* Whether it has as many columns as a record has in front of its end. */
static bool like_a_record(const struct format *format, const char *line, size_t n)
{
    const char *p = line, *end = line + n;
    for (int column = 0; column < format->end; column++, p++)
        if (!(p = memchr(p, '\t', (size_t)(end - p))))
            return false;
    return without_trailing_space(line, n) > 0;
}

bool sequence_line(struct reader *r, uint64_t number, const char *line, size_t n)
{
    if (n && line[0] == '>') {
        if (has_positions(r->format, line, n))
            refuse(number, "the sequence name starts with >, which would begin a section of sequences (FASTA)");
        r->over = true;
    }
    if (!r->over || n == 0 || line[0] == '#')
        return r->over && n == 0;
    r->over = line[0] == '>' || !like_a_record(r->format, line, n);
    return r->over;
}
