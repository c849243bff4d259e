/* Block compression (BGZF) by htslib, on its threads, and what was wrong when it failed. */
#ifndef SQUEEZE_H
#define SQUEEZE_H

#include <htslib/bgzf.h>
#include <htslib/hts.h>

/* Exported by libhts since 1.10 for its own SAM and VCF writers, but declared in no public header. */
int bgzf_idx_push(BGZF *fp, hts_idx_t *hidx, int tid, hts_pos_t beg, hts_pos_t end, uint64_t offset, int is_mapped);

enum { SQUEEZE_THREADS_MOST = 64 };

/* Writes to a duplicate of `fd`. Failures end the process. The blocks are the same with any number of threads. */
BGZF *squeeze_start(int fd, int level, int threads);

/*
 * Writing failed, by what errno says or, where that is the business of a thread of htslib's, by what the disk says when
 * it is asked again: `fd` is the file, which will be removed (-1: do not ask). Set errno to 0 before the attempt.
 */
_Noreturn void squeeze_failed(int fd, const char *what);

#endif
