/* What the reader of a VCF keeps beside the rest of its header. */
#ifndef VCF_H
#define VCF_H

#include "formats/text.h"

#include <stdint.h>

struct vcf {
    struct text fileformat, titles; /* its first and last header line */
    bool has_version;
    size_t named;         /* columns that the titles name; known at the first record */
    uint32_t *undeclared; /* contigs that records name and no line declares, though one could */
    uint32_t undeclared_count, undeclared_room;
    uint32_t undeclared_counted; /* of them in the counts */
    size_t undeclared_bytes;     /* of their lines */
};

void vcf_free(struct vcf *vcf);
size_t vcf_memory(const struct vcf *vcf);

#endif
