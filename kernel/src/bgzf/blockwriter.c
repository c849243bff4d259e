/* See blockwriter.h. */
#define _GNU_SOURCE
#define HTS_ALLOW_UNALIGNED 0 /* as in pack.c */
#include "bgzf/blockwriter.h"

#include <errno.h>
#include <htslib/bgzf.h>
#include <htslib/hts_endian.h>
#include <isa-l/crc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bgzf/deflate.h"
#include "failure.h"

enum {
    TEXT = BGZF_BLOCK_SIZE,
    PACKED = BGZF_MAX_BLOCK_SIZE,
    HEADER = 18,
    FOOTER = 8,
    LEAST_A_THREAD = 3,
    MOST_A_THREAD = 16, /* 1 MB of text: some milliseconds */
};

/* One block on its way: filled by the caller, packed by any thread, written in its turn. */
struct block {
    bool packed;
    size_t n, packed_n;
    struct index_entry *entries;
    size_t entries_n, entries_room;
    char text[TEXT];
    unsigned char bytes[PACKED];
};

struct blockwriter {
    int fd, level;
    blockwriter_indexer *indexer;
    void *of;

    struct block *ring; /* block number n is ring[n % size] */
    size_t size;
    struct block *open; /* the one that is being filled: number `filled` */

    pthread_mutex_t lock;
    pthread_cond_t more, less; /* blocks to be packed; fewer under way */
    uint64_t filled, taken, written;
    uint64_t address; /* of block number `written`, in the file */
    bool writing;     /* a thread is at that */
    bool over;
    struct failure failure; /* the first; told by the caller's thread */

    pthread_t threads[BLOCKWRITER_THREADS_MOST];
    int started;
};

/* --- one block --------------------------------------------------------------------------------------------------- */

static void pack_fast(struct deflater *deflater, struct block *block)
{
    static const unsigned char start[HEADER] = {0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 6, 0, 'B', 'C', 2, 0};
    unsigned char *to = block->bytes;
    memcpy(to, start, HEADER);
    size_t n = HEADER + deflater_pack(deflater, to + HEADER, block->text, block->n);
    u32_to_le(crc32_gzip_refl(0, (const unsigned char *)block->text, block->n), to + n);
    u32_to_le((uint32_t)block->n, to + n + 4);
    block->packed_n = n + FOOTER;
    u16_to_le((uint16_t)(block->packed_n - 1), to + 16);
}

static bool pack(const struct blockwriter *w, struct deflater *deflater, struct block *block)
{
    if (w->level == 0) {
        pack_fast(deflater, block);
        return true;
    }
    block->packed_n = PACKED;
    errno = 0;
    return bgzf_compress(block->bytes, &block->packed_n, block->text, block->n, w->level) == 0;
}

/* --- its way ----------------------------------------------------------------------------------------------------- */

static bool write_all(int fd, const unsigned char *bytes, size_t n)
{
    while (n) {
        ssize_t done = write(fd, bytes, n);
        if (done < 0 && errno != EINTR)
            return false;
        if (done > 0) {
            bytes += done;
            n -= (size_t)done;
        }
    }
    return true;
}

/* With the lock held: keeps what went wrong first. Nobody goes on after that but to the end. */
static void keep_failure(struct blockwriter *w, const struct failure *failure)
{
    if (!w->failure.code)
        w->failure = *failure;
    pthread_cond_broadcast(&w->less);
}

/* By the one thread that is at it, without the lock. */
static bool write_block(struct blockwriter *w, const struct block *block, struct failure *failure)
{
    errno = 0;
    if (!write_all(w->fd, block->bytes, block->packed_n)) {
        failure_of_errno(failure, "writing the output");
        return false;
    }
    errno = 0;
    for (size_t i = 0; i < block->entries_n; i++)
        if (!w->indexer(w->of, &block->entries[i], w->address << 16 | block->entries[i].at)) {
            failure_of_library(failure, "the index refused a record");
            return false;
        }
    return true;
}

/* With the lock held, which it leaves meanwhile: writes what is next while that is ready. */
static void write_next(struct blockwriter *w)
{
    while (!w->writing && w->written < w->taken && w->ring[w->written % w->size].packed && !w->failure.code) {
        struct block *block = &w->ring[w->written % w->size];
        struct failure failure = {0};
        w->writing = true;
        pthread_mutex_unlock(&w->lock);
        bool done = write_block(w, block, &failure);
        pthread_mutex_lock(&w->lock);
        w->writing = false;
        if (!done) {
            keep_failure(w, &failure);
            return;
        }
        w->address += block->packed_n;
        w->written++;
        pthread_cond_signal(&w->less);
    }
}

static void *pack_all(void *of)
{
    struct blockwriter *w = of;
    struct deflater *deflater = w->level == 0 ? deflater_new() : NULL;
    pthread_mutex_lock(&w->lock);
    if (w->level == 0 && !deflater)
        keep_failure(w, &(struct failure){.code = EXIT_MEMORY, .reason = OUT_OF_MEMORY, .detail = "ran out of memory"});
    for (;;) {
        while (w->taken == w->filled && !w->over)
            pthread_cond_wait(&w->more, &w->lock);
        if (w->over || w->failure.code)
            break;
        struct block *block = &w->ring[w->taken++ % w->size];
        pthread_mutex_unlock(&w->lock);
        bool done = pack(w, deflater, block);
        struct failure failure = {0};
        if (!done)
            failure_of_library(&failure, "a block could not be compressed");
        pthread_mutex_lock(&w->lock);
        if (!done) {
            keep_failure(w, &failure);
            break;
        }
        block->packed = true;
        write_next(w);
    }
    pthread_mutex_unlock(&w->lock);
    deflater_free(deflater);
    return NULL;
}

/* --- the caller's side ------------------------------------------------------------------------------------------- */

/* With entries of records as short as they can be, in an array that doubles. */
enum { ENTRIES_MOST = TEXT / 6 * 3 / 2, BLOCK_MOST = sizeof(struct block) + ENTRIES_MOST * sizeof(struct index_entry) };

static size_t ring_size(int threads, uint64_t memory)
{
    size_t n = (size_t)threads, least = n * LEAST_A_THREAD + 2, most = n * MOST_A_THREAD + 2;
    uint64_t some = memory / BLOCK_MOST;
    return some < least ? least : some > most ? most : (size_t)some;
}

uint64_t blockwriter_memory(int threads, uint64_t given)
{
    return ring_size(threads, given) * BLOCK_MOST + (uint64_t)threads * deflater_memory();
}

struct blockwriter *blockwriter_start(int fd, int level, int threads, uint64_t memory, blockwriter_indexer *indexer,
                                      void *of)
{
    struct blockwriter *w = xrealloc(NULL, sizeof *w);
    memset(w, 0, sizeof *w);
    w->fd = fd;
    w->level = level;
    w->indexer = indexer;
    w->of = of;
    w->size = ring_size(threads, memory);
    w->ring = xrealloc(NULL, w->size * sizeof *w->ring);
    for (size_t i = 0; i < w->size; i++) {
        w->ring[i].entries = NULL;
        w->ring[i].entries_room = w->ring[i].entries_n = w->ring[i].n = 0;
    }
    w->open = w->ring;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->more, NULL);
    pthread_cond_init(&w->less, NULL);
    for (; w->started < threads; w->started++)
        if (pthread_create(&w->threads[w->started], NULL, pack_all, w) != 0)
            fail_memory("could not start compression threads");
    return w;
}

/* With the lock held. */
static void wait_for(struct blockwriter *w, uint64_t under_way)
{
    while (w->filled - w->written > under_way && !w->failure.code)
        pthread_cond_wait(&w->less, &w->lock);
    if (w->failure.code) {
        struct failure failure = w->failure;
        pthread_mutex_unlock(&w->lock);
        fail_with(&failure);
    }
}

/* The open block goes on its way, and the next one is opened. */
static void hand_over(struct blockwriter *w)
{
    w->open->packed = false;
    pthread_mutex_lock(&w->lock);
    w->filled++;
    pthread_cond_signal(&w->more);
    wait_for(w, w->size - 1);
    pthread_mutex_unlock(&w->lock);
    w->open = &w->ring[w->filled % w->size];
    w->open->n = w->open->entries_n = 0;
}

void blockwriter_text(struct blockwriter *w, const char *text, size_t n)
{
    for (size_t room; n >= (room = TEXT - w->open->n); text += room, n -= room) {
        memcpy(w->open->text + w->open->n, text, room);
        w->open->n = TEXT;
        hand_over(w);
    }
    if (n)
        memcpy(w->open->text + w->open->n, text, n);
    w->open->n += n;
}

void blockwriter_keep_together(struct blockwriter *w, size_t n)
{
    if (w->open->n && n > TEXT - w->open->n)
        hand_over(w);
}

void blockwriter_record(struct blockwriter *w, struct index_entry entry)
{
    struct block *block = w->open;
    if (block->entries_n == block->entries_room) {
        block->entries_room = block->entries_room ? block->entries_room * 2 : 1024;
        block->entries = xrealloc(block->entries, block->entries_room * sizeof *block->entries);
    }
    entry.at = (uint32_t)block->n & INT32_MAX >> 1;
    block->entries[block->entries_n++] = entry;
}

/* Records that end just where the last block does, with nothing behind it: they are told here. */
static void index_rest(struct blockwriter *w)
{
    struct failure failure;
    w->open->packed_n = 0;
    if (!write_block(w, w->open, &failure))
        fail_with(&failure);
    w->open->entries_n = 0;
}

uint64_t blockwriter_flush(struct blockwriter *w)
{
    if (w->open->n)
        hand_over(w);
    pthread_mutex_lock(&w->lock);
    wait_for(w, 0);
    pthread_mutex_unlock(&w->lock);
    index_rest(w);
    return w->address << 16;
}

void blockwriter_end(struct blockwriter *w)
{
    unsigned char marker[PACKED];
    size_t n = sizeof marker;
    (void)blockwriter_flush(w);
    errno = 0;
    if (bgzf_compress(marker, &n, NULL, 0, -1) != 0 || !write_all(w->fd, marker, n))
        fail_io("writing the output");
    blockwriter_drop(w);
}

void blockwriter_drop(struct blockwriter *w)
{
    pthread_mutex_lock(&w->lock);
    w->over = true;
    pthread_cond_broadcast(&w->more);
    pthread_mutex_unlock(&w->lock);
    for (int i = 0; i < w->started; i++)
        pthread_join(w->threads[i], NULL);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->more);
    pthread_cond_destroy(&w->less);
    for (size_t i = 0; i < w->size; i++)
        free(w->ring[i].entries);
    free(w->ring);
    free(w);
}
