/* See parent_ids.h. */
#include "formats/parent_ids.h"

#include <stdlib.h>

#include "formats/gtf_attributes.h"

static const char LIKE_GENE[] = "transcript:";

static char *write_repeat(char *to, uint32_t repeat)
{
    char digits[10];
    int at = sizeof digits;
    if (!repeat)
        return to;
    do
        digits[--at] = (char)('0' + repeat % 10);
    while (repeat /= 10);
    to = write_bytes(to, "_dup", 4);
    return write_bytes(to, digits + at, sizeof digits - (size_t)at);
}

char *write_parent_id(char *to, const struct parents *p, uint32_t number)
{
    const struct parent *parent = &p->all[number];
    const struct parent_name *name = &p->names[parent->name];
    if (parent->like_gene)
        to = write_bytes(to, LIKE_GENE, sizeof LIKE_GENE - 1);
    to = write_escaped(to, name->id, name->id_n, true);
    return write_repeat(to, parent->repeat);
}

void add_parent_id(struct text *to, const struct parents *p, uint32_t number)
{
    struct text made = {0};
    size_t longest = 3 * (size_t)p->names[p->all[number].name].id_n + 64;
    char *from = text_reserve(&made, longest), *end = write_parent_id(from, p, number);
    text_add(to, from, (size_t)(end - from));
    free(made.bytes);
}
