/* The index of a BAM and the places on it, as samtools has them. */
#ifndef BAMINDEX_H
#define BAMINDEX_H

#include <htslib/hts.h>
#include <htslib/sam.h>
#include <stdbool.h>

#include "density.h"

#define BAI_END ((hts_pos_t)1 << 29) /* a BAI holds positions below this (SAMv1 5.2) */

/* `from`: the virtual offset of the first read. For CSI as many levels as the longest sequence needs. NULL: no memory. */
hts_idx_t *bam_index_start(const sam_hdr_t *header, bool csi, uint64_t from);

hts_pos_t bam_longest(const sam_hdr_t *header); /* of its sequences, in bases */

struct density_place bam_place(const void *header, uint32_t tid); /* a density_describe */

#endif
