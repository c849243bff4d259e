/* The list of formats. A new one: its file, and a line here. */
#include <string.h>

#include "formats/format.h"

static const struct format *const formats[] = {
    &format_bed,      &format_narrowpeak, &format_broadpeak, &format_gappedpeak, &format_tagalign,
    &format_interact, &format_gff,        &format_gff3,      &format_gtf,        &format_vcf,
};

const struct format *format_named(const char *name)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i]->name, name) == 0)
            return formats[i];
    return NULL;
}
