/*
 * See deflate.h. ISA-L's first look at a text hashes bits 16 to 47 of its own state's address in place of four bytes of
 * the text (igzip_icf_body_h1_gr_bt.asm, write_first_byte; 2.30 to 2.32, for all x86-64 that it has assembly for). The
 * result is right whatever the address, but which matches it finds hangs on the hash: measured, one block in some
 * thousands came out otherwise from one run to the next. So the state is put where that hash is zero.
 */
#define _GNU_SOURCE
#include "bgzf/deflate.h"

#include <htslib/hts_endian.h>
#include <isa-l/igzip_lib.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

enum { SEEN_SHIFT = 16, HASH_MASK = 8191, STEP = 1 << SEEN_SHIFT };
/* Steps among which some have hash zero wherever they start at a multiple: 15 bits have an effect on all 13 of the hash. */
enum { LOWER = 1 << 8, UPPER = 1 << 7, STEPS = LOWER * UPPER };

struct deflater {
    struct isal_zstream stream; /* first: its address matters */
    uint8_t tables[ISAL_DEF_LVL1_DEFAULT];
};

enum { SIZE = (sizeof(struct deflater) + STEP - 1) / STEP * STEP }; /* whole pages */

/* As the processor's CRC32 instruction: that of two values' XOR is the XOR of theirs. */
static uint32_t hash(uint32_t value)
{
    for (int bit = 0; bit < 32; bit++)
        value = value >> 1 ^ (value & 1 ? 0x82f63b78 : 0);
    return value & HASH_MASK;
}

static char *map(char *at, int how)
{
    char *got = mmap(at, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | how, -1, 0);
    return got == MAP_FAILED ? NULL : got;
}

/* The state in one of these steps below where memory is to be had, the first such that is right and free. */
static char *map_among(uintptr_t first)
{
    uint32_t lower[LOWER], wanted = hash((uint32_t)first);
    for (uint32_t i = 0; i < LOWER; i++)
        lower[i] = hash(i);
    for (uint32_t upper = 0; upper < STEPS; upper += LOWER) {
        uint32_t still = wanted ^ hash(upper);
        for (uint32_t i = 0; i < LOWER; i++) {
            if (lower[i] != still)
                continue;
            char *at = (char *)((first | upper | i) << SEEN_SHIFT), *got = map(at, MAP_FIXED_NOREPLACE);
            if (got == at)
                return at;
            if (got) /* a kernel before 4.17 takes the address for a wish */
                munmap(got, SIZE);
        }
    }
    return NULL;
}

struct deflater *deflater_new(void)
{
    enum { ATTEMPTS = 64 };
    char *anywhere = map(NULL, 0), *at = NULL;
    if (!anywhere)
        return NULL;
    munmap(anywhere, SIZE);
    uintptr_t first = ((uintptr_t)anywhere >> SEEN_SHIFT) / STEPS * STEPS;
    for (int i = 1; !at && i <= ATTEMPTS; i++)
        at = map_among(first - (uintptr_t)i * STEPS);
    return (struct deflater *)(void *)at;
}

void deflater_free(struct deflater *d)
{
    if (d)
        munmap(d, SIZE);
}

size_t deflater_memory(void)
{
    return SIZE;
}

size_t deflater_pack(struct deflater *d, unsigned char *to, const char *text, size_t n)
{
    struct isal_zstream *s = &d->stream;
    isal_deflate_stateless_init(s);
    s->level = 1;
    s->level_buf = d->tables;
    s->level_buf_size = sizeof d->tables;
    s->end_of_stream = 1;
    s->next_in = (uint8_t *)(uintptr_t)text;
    s->avail_in = (uint32_t)n;
    s->next_out = to;
    s->avail_out = (uint32_t)(n + DEFLATE_MORE);
    if (isal_deflate_stateless(s) == COMP_OK)
        return s->total_out;
    /* Stored, as that would be shorter (RFC 1951 3.2.4). */
    to[0] = 1;
    u16_to_le((uint16_t)n, to + 1);
    u16_to_le((uint16_t)~n, to + 3);
    memcpy(to + DEFLATE_MORE, text, n);
    return n + DEFLATE_MORE;
}
