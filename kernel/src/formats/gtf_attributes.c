/* See gtf_attributes.h. */
#include "formats/gtf_attributes.h"

#include <string.h>

#include "failure.h"

enum { JOINED = 256 }; /* so many attributes of a line are looked through for equal keys */

/* What must not stand in a value of column 9 (GFF3 spec, "Description of the format"). */
static const unsigned char reserved[256] = {
    [0 ... 0x1f] = 1, [0x7f] = 1, ['%'] = 1, [';'] = 1, ['='] = 1, ['&'] = 1, [','] = 1,
};

/* --- reading ------------------------------------------------------------------------------------------------- */

static struct attribute *next_attribute(struct attributes *a)
{
    if (a->n == a->room) {
        a->room = a->room ? a->room * 2 : 64;
        a->all = xrealloc(a->all, a->room * sizeof *a->all);
    }
    return &a->all[a->n++];
}

static bool named(const struct attribute *a, const char *key)
{
    return a->key_n == strlen(key) && memcmp(a->key, key, a->key_n) == 0;
}

static uint32_t count_reserved(const char *text, size_t n)
{
    uint32_t found = 0;
    for (size_t i = 0; i < n; i++)
        found += reserved[(unsigned char)text[i]];
    return found;
}

/* Where the value that begins at `p` ends: at a quote that is not escaped, or at the last one. */
static const char *closing_quote(const char *p, const char *end, bool *escaped)
{
    const char *last = NULL, *quote = p;
    for (size_t found = 0; (quote = memchr(quote, '"', (size_t)(end - quote))); quote++) {
        bool closing = quote == p || quote[-1] != '\\';
        *escaped = found++ > 0;
        last = quote;
        if (closing)
            break;
    }
    return last ? last : end;
}

/* The value with quotes instead of escaped ones. */
static void unescape(struct attributes *of, struct attribute *a, size_t most)
{
    if (!of->unescaped.n)
        text_reserve(&of->unescaped, most); /* all values of the line have room: none is moved */
    char *from = of->unescaped.bytes + of->unescaped.n, *to = from;
    for (uint32_t i = 0; i < a->value_n; i++)
        if (a->value[i] != '\\' || i + 1 == a->value_n || a->value[i + 1] != '"')
            *to++ = a->value[i];
    a->value = from;
    a->value_n = (uint32_t)(to - from);
    of->unescaped.n += a->value_n;
}

void attributes_read(struct attributes *of, const char *p, const char *end)
{
    const char *column = p;
    of->n = of->escapes = of->unescaped.n = 0;
    of->has_comment = of->is_gff3 = false;
    if (end - p == 1 && *p == '.')
        return;
    for (;;) {
        while (p < end && (*p == ' ' || *p == ';'))
            p++;
        if (p == end)
            return;
        if (*p == '#') {
            of->has_comment = true;
            return;
        }
        struct attribute *a = next_attribute(of);
        a->key = p;
        while (p < end && *p != ' ' && *p != '=' && *p != '"' && *p != ';')
            p++;
        a->key_n = (uint32_t)(p - a->key);
        while (p < end && *p == ' ')
            p++;
        bool equals = p < end && *p == '=';
        if (equals)
            for (p++; p < end && *p == ' ';)
                p++;
        const char *stop;
        bool escaped = false, quoted = p < end && *p == '"';
        if (quoted) {
            a->value = ++p;
            stop = closing_quote(p, end, &escaped);
            p = stop < end ? stop + 1 : end;
        } else {
            a->value = p;
            stop = memchr(p, ';', (size_t)(end - p));
            if (!stop)
                stop = end;
            p = stop;
            while (stop > a->value && stop[-1] == ' ')
                stop--;
        }
        a->value_n = (uint32_t)(stop - a->value);
        a->bare = a->key_n && !a->value_n && !equals && !quoted;
        if (escaped)
            unescape(of, a, (size_t)(end - column));
        if (!a->key_n) {
            a->key = "note";
            a->key_n = 4;
        }
        a->escapes = count_reserved(a->key, a->key_n) + count_reserved(a->value, a->value_n);
        of->escapes += a->escapes;
        if (equals && (named(a, "ID") || named(a, "Parent")))
            of->is_gff3 = true;
    }
}

const struct attribute *attribute_named(const struct attributes *of, const char *key)
{
    for (size_t i = 0; i < of->n; i++)
        if (named(&of->all[i], key) && of->all[i].value_n)
            return &of->all[i];
    return NULL;
}

bool attribute_has_key(const struct attributes *of, const char *key)
{
    for (size_t i = 0; i < of->n; i++)
        if (named(&of->all[i], key))
            return true;
    return false;
}

/* --- writing ------------------------------------------------------------------------------------------------- */

char *write_bytes(char *to, const char *from, size_t n)
{
    memcpy(to, from, n);
    return to + n;
}

char *write_escaped(char *to, const char *from, size_t n, bool any)
{
    static const char digits[] = "0123456789ABCDEF";
    if (!any)
        return write_bytes(to, from, n);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)from[i];
        if (!reserved[c]) {
            *to++ = (char)c;
        } else {
            *to++ = '%';
            *to++ = digits[c >> 4];
            *to++ = digits[c & 15];
        }
    }
    return to;
}

char *attribute_write_value(char *to, const struct attribute *a)
{
    return write_escaped(to, a->value, a->value_n, a->escapes);
}

static char *write_key(char *to, const struct attribute *a)
{
    if (named(a, "ID"))
        return write_bytes(to, "id", 2);
    if (named(a, "Parent"))
        return write_bytes(to, "parent", 6);
    return write_escaped(to, a->key, a->key_n, a->escapes);
}

static bool same_key(const struct attribute *a, const struct attribute *b)
{
    return a->key_n == b->key_n && memcmp(a->key, b->key, a->key_n) == 0;
}

static bool is_chosen(const struct attribute *a, enum attribute_choice choice)
{
    return choice == ALL_ATTRIBUTES || starts_with(a->key, a->key_n, "gene") ||
           (choice == OF_GENE_AND_TRANSCRIPT && starts_with(a->key, a->key_n, "transcript"));
}

char *attributes_write(char *to, const struct attributes *of, enum attribute_choice choice, bool separate)
{
    size_t most = of->n < JOINED ? of->n : JOINED;
    bool written[JOINED] = {false};
    for (size_t i = 0; i < of->n; i++) {
        const struct attribute *a = &of->all[i];
        if ((i < most && written[i]) || !is_chosen(a, choice))
            continue;
        if (separate)
            *to++ = ';';
        separate = true;
        to = write_key(to, a);
        *to++ = '=';
        to = attribute_write_value(to, a);
        for (size_t j = i + 1; j < most; j++)
            if (same_key(a, &of->all[j])) {
                written[j] = true;
                *to++ = ',';
                to = attribute_write_value(to, &of->all[j]);
            }
    }
    return to;
}
