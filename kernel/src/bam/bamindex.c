/* See bamindex.h. */
#include "bam/bamindex.h"

#include <string.h>

enum { MIN_SHIFT = 14, BAI_LEVELS = 5 };

hts_pos_t bam_longest(const sam_hdr_t *header)
{
    hts_pos_t longest = 0;
    for (int i = 0; i < sam_hdr_nref(header); i++)
        if (sam_hdr_tid2len(header, i) > longest)
            longest = sam_hdr_tid2len(header, i);
    return longest;
}

hts_idx_t *bam_index_start(const sam_hdr_t *header, bool csi, uint64_t from)
{
    int levels = BAI_LEVELS;
    if (csi) {
        hts_pos_t longest = bam_longest(header) + 256;
        levels = 0;
        for (hts_pos_t reach = 1 << MIN_SHIFT; longest > reach; reach <<= 3)
            levels++;
    }
    return hts_idx_init(sam_hdr_nref(header), csi ? HTS_FMT_CSI : HTS_FMT_BAI, from, MIN_SHIFT, levels);
}

struct density_place bam_place(const void *header, uint32_t tid)
{
    const char *name = sam_hdr_tid2name(header, (int)tid);
    return (struct density_place){name, strlen(name), (uint64_t)sam_hdr_tid2len(header, (int)tid)};
}
