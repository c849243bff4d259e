/* What the reader of a GTF keeps. */
#ifndef GTF_H
#define GTF_H

#include "formats/gtf_attributes.h"
#include "formats/parents.h"

struct gtf {
    struct parents parents;
    struct attributes attributes; /* of the line at hand */
    struct text converted;        /* that line in GFF3 */
    struct text joined;           /* its attributes, where TABs split them */
    bool is_gff3;                 /* a line says that it is GFF3 already */
    bool version_added;           /* its first line, the version, was added to the header */
    bool identified;              /* some record has an id */
};

void gtf_free(struct gtf *gtf);
size_t gtf_memory(const struct gtf *gtf);

#endif
