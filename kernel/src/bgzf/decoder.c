/*
 * Plain text, gzip and Zstandard (any number of members) and BGZF.
 *
 * BGZF is read here and not by htslib because a reader of untrusted bytes must be strict: htslib takes a missing
 * end for the end. Each block says its size and has a checksum, so completeness costs next to nothing.
 */
#define _GNU_SOURCE
#include "bgzf/decoder.h"

#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bgzf/gunzip.h"
#include "bgzf/magic.h"
#include "bgzf/unzstd.h"

enum {
    BUFFER = 256 << 10,
    BLOCK_MOST = 1 << 16,
};

/* Below this a ratio says nothing: small files may be very repetitive. */
#define RATIO_FLOOR ((uint64_t)256 << 20)

enum packing { UNKNOWN, PLAIN, GZIP, BGZF, ZSTANDARD };

struct decoder {
    int fd;
    uint64_t size;
    _Atomic uint64_t taken;
    struct decode_limits limits;
    uint64_t given;
    enum packing packing; /* what the file began as */
    enum packing now;     /* GZIP may follow BGZF: `cat a.bgz b.gz` is legal */
    unsigned char *buffer;
    size_t at, end;
    uint64_t address; /* of the next BGZF block */
    bool drained;     /* read() said 0 */
    bool begun;       /* gzip, Zstandard: there is a decoder */
    bool between;     /* a member has ended and no other has begun */
    bool marked;      /* BGZF: the last block seen was empty */
    struct gunzip *gunzip;
    struct unzstd *unzstd;
    _Atomic size_t window; /* bytes that it holds */
    struct libdeflate_decompressor *blocks;
};

struct decoder *decoder_new(int fd, struct decode_limits limits)
{
    struct decoder *d = xrealloc(NULL, sizeof *d);
    memset(d, 0, sizeof *d);
    d->fd = fd;
    d->limits = limits;
    d->buffer = xrealloc(NULL, BUFFER);
    struct stat found;
    if (fstat(fd, &found) == 0 && S_ISREG(found.st_mode))
        d->size = (uint64_t)found.st_size;
    return d;
}

void decoder_free(struct decoder *d)
{
    close(d->fd);
    gunzip_free(d->gunzip);
    unzstd_free(d->unzstd);
    if (d->blocks)
        libdeflate_free_decompressor(d->blocks);
    free(d->buffer);
    free(d);
}

uint64_t decoder_taken(const struct decoder *d)
{
    return atomic_load_explicit(&d->taken, memory_order_relaxed);
}

size_t decoder_memory(const struct decoder *d)
{
    return atomic_load_explicit(&d->window, memory_order_relaxed);
}

uint64_t decoder_size(const struct decoder *d)
{
    return d->size;
}

const char *decoder_packing(const struct decoder *d)
{
    static const char *const names[] = {"uncompressed", "uncompressed", "gzip", "BGZF", "Zstandard"};
    return names[d->packing];
}

bool decoder_is_blocks(const struct decoder *d)
{
    return d->now == BGZF;
}

int decoder_dup(const struct decoder *d)
{
    struct stat found;
    return fstat(d->fd, &found) == 0 && S_ISREG(found.st_mode) ? fcntl(d->fd, F_DUPFD_CLOEXEC, 0) : -1;
}

bool decoder_lacks_end_marker(const struct decoder *d)
{
    return d->now == BGZF && !d->marked;
}

static void set_failure(struct failure *f, int code, const char *reason, const char *detail)
{
    f->code = code;
    f->reason = reason;
    f->line = 0;
    snprintf(f->detail, sizeof f->detail, "%s", detail);
}

static void truncated(struct failure *f)
{
    set_failure(f, EXIT_TRUNCATED, SOURCE_INVALID, "truncated: the compressed data ends before its end marker");
}

static void corrupt(struct failure *f)
{
    set_failure(f, EXIT_INVALID, SOURCE_INVALID, "corrupt: the compressed data does not decode");
}

static ssize_t read_some(struct decoder *d, void *into, size_t room, struct failure *f)
{
    ssize_t got;
    do
        got = read(d->fd, into, room);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        failure_of_errno(f, "reading the source");
    else if (got == 0)
        d->drained = true;
    else
        atomic_fetch_add_explicit(&d->taken, (uint64_t)got, memory_order_relaxed);
    return got;
}

/* Have `wanted` bytes in the buffer unless the source ends first; how many there are, or 0 on failure. */
static size_t need(struct decoder *d, size_t wanted, struct failure *f)
{
    if (d->end - d->at < wanted && d->at) {
        memmove(d->buffer, d->buffer + d->at, d->end - d->at);
        d->end -= d->at;
        d->at = 0;
    }
    while (d->end - d->at < wanted && !d->drained) {
        ssize_t got = read_some(d, d->buffer + d->end, BUFFER - d->end, f);
        if (got < 0)
            return 0;
        d->end += (size_t)got;
    }
    return d->end - d->at;
}

static uint32_t little32(const unsigned char *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static bool recognise(struct decoder *d, struct failure *f)
{
    size_t n = need(d, BGZF_HEADER, f);
    if (f->code)
        return false;
    const unsigned char *p = d->buffer + d->at;
    const char *unreadable = unreadable_compression(p, n);
    if (unreadable) {
        set_failure(f, EXIT_INVALID, SOURCE_INVALID, "");
        snprintf(f->detail, sizeof f->detail, "is %s-compressed; only gzip, BGZF and Zstandard can be read here",
                 unreadable);
        return false;
    }
    d->packing = is_gzip(p, n) ? (bgzf_block_size(p, n) ? BGZF : GZIP) : is_zstd_frame(p, n) ? ZSTANDARD : PLAIN;
    d->now = d->packing;
    return true;
}

static size_t decode_plain(struct decoder *d, char *into, size_t room, struct failure *f)
{
    if (d->at < d->end) {
        size_t n = d->end - d->at < room ? d->end - d->at : room;
        memcpy(into, d->buffer + d->at, n);
        d->at += n;
        return n;
    }
    ssize_t got = d->drained ? 0 : read_some(d, into, room, f);
    return got > 0 ? (size_t)got : 0;
}

/* Between two members: whether another one follows. */
static bool another_member(struct decoder *d, struct failure *f)
{
    size_t magic = d->now == ZSTANDARD ? 4 : 2;
    for (;;) {
        size_t n = need(d, magic, f);
        /* Tapes and some archives pad with zeros. */
        while (n && d->buffer[d->at] == 0) {
            d->at++;
            n--;
        }
        if (f->code || (!n && d->drained))
            return false;
        if (n < magic && !d->drained)
            continue;
        if ((d->now == ZSTANDARD ? is_zstd_frame : is_gzip)(d->buffer + d->at, n))
            return true;
        set_failure(f, EXIT_INVALID, SOURCE_INVALID, "other bytes follow the compressed data");
        return false;
    }
}

static void begin_member(struct decoder *d)
{
    if (d->now == ZSTANDARD) {
        if (!d->unzstd)
            d->unzstd = unzstd_new();
        unzstd_restart(d->unzstd);
    } else {
        if (!d->gunzip)
            d->gunzip = gunzip_new();
        gunzip_restart(d->gunzip);
    }
}

static enum member_state run_member(struct decoder *d, size_t *used, char *into, size_t *made)
{
    const unsigned char *from = d->buffer + d->at;
    if (d->now != ZSTANDARD)
        return gunzip_run(d->gunzip, from, used, into, made);
    enum member_state state = unzstd_run(d->unzstd, from, used, into, made);
    atomic_store_explicit(&d->window, unzstd_memory(d->unzstd), memory_order_relaxed);
    return state;
}

static size_t decode_members(struct decoder *d, char *into, size_t room, struct failure *f)
{
    if (!d->begun)
        begin_member(d);
    d->begun = true;
    for (;;) {
        if (d->between) {
            if (!another_member(d, f))
                return 0;
            begin_member(d);
            d->between = false;
        }
        if (d->at == d->end && !d->drained)
            need(d, 1, f);
        if (f->code)
            return 0;
        size_t used = d->end - d->at, made = room;
        enum member_state state = run_member(d, &used, into, &made);
        d->at += used;
        if (state == MEMBER_CORRUPT) {
            corrupt(f);
            return 0;
        }
        if (state == MEMBER_TOO_WIDE) {
            set_failure(f, EXIT_INVALID, SOURCE_INVALID, "");
            snprintf(f->detail, sizeof f->detail,
                     "its Zstandard frames need a window of more than %d MB: pack it without --long",
                     1 << (UNZSTD_WINDOW_LOG - 20));
            return 0;
        }
        d->between = state == MEMBER_ENDED;
        if (made)
            return made;
        if (!d->between && d->drained && d->at == d->end) {
            truncated(f);
            return 0;
        }
    }
}

static size_t decode_blocks(struct decoder *d, char *into, size_t room, struct blocks *blocks, struct failure *f)
{
    size_t made = 0;
    if (!d->blocks && !(d->blocks = libdeflate_alloc_decompressor()))
        fail(EXIT_MEMORY, OUT_OF_MEMORY, "ran out of memory");
    while (room - made >= BLOCK_MOST && blocks->n < BLOCKS_MOST) {
        /* What is ready goes on before the next read can block. */
        if (made && d->end - d->at < BLOCK_MOST)
            break;
        size_t n = need(d, BGZF_HEADER, f);
        if (f->code || !n)
            break;
        size_t size = bgzf_block_size(d->buffer + d->at, n);
        if (!size) {
            if (d->marked || (n >= BGZF_HEADER && is_gzip(d->buffer + d->at, n))) {
                d->now = GZIP;
                d->begun = d->between = true;
                break;
            }
            n < BGZF_HEADER ? truncated(f) : corrupt(f);
            break;
        }
        if (need(d, size, f) < size) {
            if (!f->code)
                truncated(f);
            break;
        }
        const unsigned char *block = d->buffer + d->at, *tail = block + size - BGZF_FOOTER;
        uint32_t checksum = little32(tail), length = little32(tail + 4);
        if (length > BLOCK_MOST ||
            libdeflate_deflate_decompress(d->blocks, block + BGZF_HEADER, size - BGZF_HEADER - BGZF_FOOTER, into + made,
                                          length, NULL) != LIBDEFLATE_SUCCESS ||
            libdeflate_crc32(0, into + made, length) != checksum) {
            corrupt(f);
            break;
        }
        d->at += size;
        d->marked = length == 0;
        blocks->all[blocks->n++] = (struct block){d->address, made};
        d->address += size;
        made += length;
    }
    blocks->all[blocks->n] = (struct block){d->address, made};
    /* Blocks before the bad one were whole: they go first, the failure comes with the next call's 0. */
    if (f->code && made) {
        memset(f, 0, sizeof *f);
        return made;
    }
    return made;
}

size_t decoder_read(struct decoder *d, char *into, size_t room, struct blocks *blocks, struct failure *f)
{
    memset(f, 0, sizeof *f);
    blocks->n = 0;
    if (d->now == UNKNOWN && !recognise(d, f))
        return 0;
    size_t made = 0;
    if (d->now == BGZF)
        made = decode_blocks(d, into, room, blocks, f);
    if (!made && !f->code && d->now != BGZF)
        made = d->now == PLAIN ? decode_plain(d, into, room, f) : decode_members(d, into, room, f);
    d->given += made;
    uint64_t packed = d->size ? d->size : decoder_taken(d);
    if (d->given > d->limits.bytes) {
        set_failure(f, EXIT_LIMIT, SOURCE_TOO_LARGE, "");
        snprintf(f->detail, sizeof f->detail, "more than %llu bytes when uncompressed",
                 (unsigned long long)d->limits.bytes);
        return 0;
    }
    if (d->packing != PLAIN && d->given > RATIO_FLOOR && d->given / d->limits.ratio >= packed) {
        set_failure(f, EXIT_LIMIT, SOURCE_INVALID, "");
        snprintf(f->detail, sizeof f->detail,
                 "expands to more than %llu times its size, which no real file of this kind does",
                 (unsigned long long)d->limits.ratio);
        return 0;
    }
    return made;
}
