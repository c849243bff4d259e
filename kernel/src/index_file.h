/* A finished index as a file. */
#ifndef INDEX_FILE_H
#define INDEX_FILE_H

#include <htslib/hts.h>
#include <stdbool.h>

/* Packed as htslib packs it: the bytes are those of tabix. Failures end the process, here and below. */
void index_file_save(const hts_idx_t *index, const char *path, bool csi);

/*
 * A TBI, packed at level 1 by so many threads: in a tenth of the time, and seldom larger, since an index holds little that
 * a longer search would find. Tabix gives other bytes, which unpack to the same.
 */
void index_file_save_quickly(hts_idx_t *index, const char *path, int threads);

#endif
