/*
 * gzip's decoder. zlib gives 160 MB/s a core, which would make reading the slowest part of the whole pass;
 * ISA-L gives five times that. Both streaming, so memory is bounded whatever the member's size.
 */
#include "gunzip.h"

#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"

static unsigned clip(size_t n)
{
    return n > INT_MAX ? INT_MAX : (unsigned)n;
}

#ifdef WITH_ISAL
#include <isa-l/igzip_lib.h>

struct gunzip {
    struct inflate_state state;
};

struct gunzip *gunzip_new(void)
{
    return grow(NULL, sizeof(struct gunzip));
}

void gunzip_free(struct gunzip *g)
{
    free(g);
}

void gunzip_restart(struct gunzip *g)
{
    isal_inflate_init(&g->state);
    g->state.crc_flag = ISAL_GZIP;
}

enum gunzip_state gunzip_run(struct gunzip *g, const void *from, size_t *used, void *into, size_t *made)
{
    struct inflate_state *s = &g->state;
    s->next_in = (uint8_t *)(uintptr_t)from;
    s->avail_in = clip(*used);
    s->next_out = into;
    s->avail_out = clip(*made);
    int status = isal_inflate(s);
    *used = (size_t)(s->next_in - (const uint8_t *)from);
    *made = (size_t)(s->next_out - (uint8_t *)into);
    if (status != ISAL_DECOMP_OK && status != ISAL_END_INPUT && status != ISAL_OUT_OVERFLOW)
        return GUNZIP_CORRUPT;
    return s->block_state == ISAL_BLOCK_FINISH ? GUNZIP_ENDED : GUNZIP_MORE;
}

#else
#include <zlib.h>

struct gunzip {
    z_stream stream;
};

struct gunzip *gunzip_new(void)
{
    struct gunzip *g = grow(NULL, sizeof *g);
    memset(g, 0, sizeof *g);
    if (inflateInit2(&g->stream, 15 + 16) != Z_OK)
        fail(EXIT_MEMORY, OUT_OF_MEMORY, "ran out of memory");
    return g;
}

void gunzip_free(struct gunzip *g)
{
    if (g)
        inflateEnd(&g->stream);
    free(g);
}

void gunzip_restart(struct gunzip *g)
{
    inflateReset(&g->stream);
}

enum gunzip_state gunzip_run(struct gunzip *g, const void *from, size_t *used, void *into, size_t *made)
{
    z_stream *z = &g->stream;
    unsigned given = clip(*used), room = clip(*made);
    z->next_in = (Bytef *)(uintptr_t)from;
    z->avail_in = given;
    z->next_out = into;
    z->avail_out = room;
    int status = inflate(z, Z_NO_FLUSH);
    *used = given - z->avail_in;
    *made = room - z->avail_out;
    if (status == Z_STREAM_END)
        return GUNZIP_ENDED;
    return status == Z_OK || status == Z_BUF_ERROR ? GUNZIP_MORE : GUNZIP_CORRUPT;
}

#endif
