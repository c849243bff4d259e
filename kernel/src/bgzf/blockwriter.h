/*
 * Text into BGZF (SAMv1 4.1): threads compress its blocks side by side and write them in their order. Where each record
 * ends in the file is told when that is known, so that an index can be made in the same pass.
 *
 * Level 0 is ISA-L's: twice as fast as level 1, for a fiftieth more bytes, which are the same on every x86-64 processor with
 * SSE 4.2. From level 1 on htslib compresses, and the bytes are those of `bgzip -l`.
 */
#ifndef BLOCKWRITER_H
#define BLOCKWRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BLOCKWRITER_THREADS_MOST = 64 };

/*
 * Bytes that it may hold when it is given so many: threads that have blocks in hand for some milliseconds need not wait for
 * one that does not get to run. Less than a few blocks a thread it never has.
 */
uint64_t blockwriter_memory(int threads, uint64_t given);

struct blockwriter;

/* A record of the index: it lies on [from, to) of the place. */
struct index_entry {
    int64_t from, to;
    uint32_t place;
    uint32_t mapped : 1;         /* counted as such */
    uint32_t ends_elsewhere : 1; /* the density counts its first base alone */
    uint32_t at : 30;            /* where it ends, in its block: the writer's to fill in */
};

/* Told in the order of the records, by one thread at a time; `end` is a virtual file offset. False: it was refused. */
typedef bool blockwriter_indexer(void *of, const struct index_entry *entry, uint64_t end);

/* Writes to `fd`, which stays open. Failures end the process, here and below; `indexer` may be NULL without entries. */
struct blockwriter *blockwriter_start(int fd, int level, int threads, uint64_t memory, blockwriter_indexer *indexer,
                                      void *of);

void blockwriter_text(struct blockwriter *writer, const char *text, size_t n);

/* The next `n` bytes go to a new block if they do not fit in the open one. */
void blockwriter_keep_together(struct blockwriter *writer, size_t n);

/* A record ends here. */
void blockwriter_record(struct blockwriter *writer, struct index_entry entry);

/* Ends the block and waits until all is written and told; the virtual offset of what comes next. */
uint64_t blockwriter_flush(struct blockwriter *writer);

/* Flushes, writes the end marker, and drops the writer. */
void blockwriter_end(struct blockwriter *writer);

/* As it is: what is under way may be written or not. */
void blockwriter_drop(struct blockwriter *writer);

#endif
