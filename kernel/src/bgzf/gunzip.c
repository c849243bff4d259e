/*
 * gzip's decoder. zlib gives 160 MB/s a core, which would make reading the slowest part of the whole pass;
 * ISA-L gives five times that. Both streaming, so memory is bounded whatever the member's size.
 */
#include "bgzf/gunzip.h"

#include <isa-l/igzip_lib.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"

static unsigned clip(size_t n)
{
    return n > INT_MAX ? INT_MAX : (unsigned)n;
}

/* RFC 1952 2.3. ISA-L's own reader of it fails when a long header comes in pieces, so it gets the rest only. */
enum stage { FIXED, EXTRA_SIZE, EXTRA, NAME, COMMENT, CHECKSUM, BODY };
enum { FIXED_BYTES = 10, HAS_CHECKSUM = 2, HAS_EXTRA = 4, HAS_NAME = 8, HAS_COMMENT = 16, RESERVED = 0xe0 };

struct gunzip {
    struct inflate_state state;
    enum stage stage;
    unsigned count; /* bytes of this stage so far, or left of the extra field */
    unsigned flags;
};

struct gunzip *gunzip_new(void)
{
    return xrealloc(NULL, sizeof(struct gunzip));
}

void gunzip_free(struct gunzip *g)
{
    free(g);
}

void gunzip_restart(struct gunzip *g)
{
    isal_inflate_init(&g->state);
    g->state.crc_flag = ISAL_GZIP_NO_HDR_VER;
    g->stage = FIXED;
    g->count = g->flags = 0;
}

/* To the next stage that this header has. */
static void move_on(struct gunzip *g)
{
    static const unsigned needs[] = {0, HAS_EXTRA, HAS_EXTRA, HAS_NAME, HAS_COMMENT, HAS_CHECKSUM, 0};
    unsigned extra = g->count;
    do
        g->stage++;
    while (g->stage != BODY && !(g->flags & needs[g->stage]));
    g->count = g->stage == EXTRA ? extra : 0;
    if (g->stage == EXTRA && !extra)
        move_on(g);
}

/* One byte of the header; whether it may stand there. */
static bool header_byte(struct gunzip *g, unsigned char byte)
{
    static const unsigned char magic[3] = {0x1f, 0x8b, 8};
    switch (g->stage) {
    case FIXED:
        if ((g->count < 3 && byte != magic[g->count]) || (g->count == 3 && byte & RESERVED))
            return false;
        if (g->count == 3)
            g->flags = byte;
        if (++g->count == FIXED_BYTES)
            move_on(g);
        break;
    case EXTRA_SIZE:
        /* The low byte waits in the upper half until the high one is there. */
        if (!(g->count >> 16)) {
            g->count = 1u << 16 | byte;
        } else {
            g->count = (g->count & 0xff) | (unsigned)byte << 8;
            move_on(g);
        }
        break;
    case EXTRA:
        if (--g->count == 0)
            move_on(g);
        break;
    case NAME:
    case COMMENT:
        if (!byte)
            move_on(g);
        break;
    case CHECKSUM:
        /* Of the header alone, and hardly ever there: not checked. */
        if (++g->count == 2)
            move_on(g);
        break;
    case BODY: break;
    }
    return true;
}

enum member_state gunzip_run(struct gunzip *g, const void *from, size_t *used, void *into, size_t *made)
{
    struct inflate_state *s = &g->state;
    const uint8_t *p = from, *end = p + *used;
    for (; p < end && g->stage != BODY; p++)
        if (!header_byte(g, *p))
            return MEMBER_CORRUPT;
    if (g->stage != BODY) {
        *made = 0;
        return MEMBER_MORE;
    }
    s->next_in = (uint8_t *)(uintptr_t)p;
    s->avail_in = clip((size_t)(end - p));
    s->next_out = into;
    s->avail_out = clip(*made);
    int status = isal_inflate(s);
    *used = (size_t)(s->next_in - (const uint8_t *)from);
    *made = (size_t)(s->next_out - (uint8_t *)into);
    if (status != ISAL_DECOMP_OK && status != ISAL_END_INPUT && status != ISAL_OUT_OVERFLOW)
        return MEMBER_CORRUPT;
    return s->block_state == ISAL_BLOCK_FINISH ? MEMBER_ENDED : MEMBER_MORE;
}
