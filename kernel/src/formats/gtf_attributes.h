/*
 * Column 9 of a GTF line: read in any spelling that is about, written as GFF3 spells it (GTF 2.2; GFF3 spec 1.26).
 *
 * key "value"; or key value; or key=value; in any mixture. In quotes \" is a quote, unless it is the last one of the line;
 * it is written without the backslash. Values of one key are joined by commas. A key ID or Parent,
 * which would get in the way, is written in lower case. What GFF3 reserves is written %XX. Text behind a # where a key
 * should be is a comment.
 */
#ifndef GTF_ATTRIBUTES_H
#define GTF_ATTRIBUTES_H

#include <stdint.h>

#include "formats/text.h"

/* One attribute, in the line it stands in. */
struct attribute {
    const char *key, *value;
    uint32_t key_n, value_n;
    uint32_t escapes; /* bytes of it that GFF3 reserves */
    bool bare;        /* a word alone, without = and value */
};

struct attributes {
    struct attribute *all;
    size_t n, room, escapes;
    struct text unescaped; /* values in which \" stood */
    bool has_comment;      /* a # ended the line */
    bool is_gff3;          /* ID= or Parent=: it is GFF3 already */
};

void attributes_read(struct attributes *attributes, const char *text, const char *end);

/* The first of that name that has a value, or NULL. */
const struct attribute *attribute_named(const struct attributes *attributes, const char *key);

bool attribute_has_key(const struct attributes *attributes, const char *key);

/*
 * Writing, where there is room for three times each byte that GFF3 reserves and four bytes an attribute. All of these
 * give the end of what they wrote.
 */
enum attribute_choice { ALL_ATTRIBUTES, OF_GENE, OF_GENE_AND_TRANSCRIPT };

char *attributes_write(char *to, const struct attributes *attributes, enum attribute_choice choice, bool separate);
char *attribute_write_value(char *to, const struct attribute *attribute);
char *write_escaped(char *to, const char *from, size_t n, bool any); /* `any`: some byte of it is reserved */
char *write_bytes(char *to, const char *from, size_t n);

#endif
