/*
 * See deflate.h. ISA-L's first look at a text hashes bits 16 to 47 of its own state's address in place of four bytes of
 * the text (igzip_icf_body_h1_gr_bt.asm, write_first_byte; 2.30 to 2.32, for all x86-64 that it has assembly for). The
 * result is right whatever the address, but which matches it finds hangs on the hash: measured, one block in some
 * thousands came out otherwise from one run to the next. So the state is put where that hash is zero.
 */
#define _GNU_SOURCE
#include "deflate.h"

#include <htslib/hts_endian.h>
#include <isa-l/igzip_lib.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

/* Of what the hash sees, 15 bits are enough for each of its values (12 of 13 bits are), wherever they start. */
enum { SEEN_SHIFT = 16, CHOICES = 2 << 15, HASH_MASK = 8191 };

struct deflater {
    struct isal_zstream stream; /* first: its address matters */
    uint8_t tables[ISAL_DEF_LVL1_DEFAULT];
};

enum { STEP = 1 << SEEN_SHIFT, SIZE = (sizeof(struct deflater) + STEP - 1) / STEP * STEP }; /* whole pages */

/* As the processor's CRC32 instruction. */
static uint32_t hash(uint32_t value)
{
    for (int bit = 0; bit < 32; bit++)
        value = value >> 1 ^ (value & 1 ? 0x82f63b78 : 0);
    return value & HASH_MASK;
}

struct deflater *deflater_new(void)
{
    /* Addresses only, all but the right ones given back. */
    size_t size = (size_t)CHOICES * STEP + SIZE;
    char *all = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED)
        return NULL;
    char *end = all + size, *at = all + -(uintptr_t)all % STEP;
    while (hash((uint32_t)((uintptr_t)at >> SEEN_SHIFT)) && (size_t)(end - at) >= STEP + SIZE)
        at += STEP;
    if (at > all)
        munmap(all, (size_t)(at - all));
    munmap(at + SIZE, (size_t)(end - at) - SIZE);
    if (mprotect(at, SIZE, PROT_READ | PROT_WRITE) != 0) {
        munmap(at, SIZE);
        return NULL;
    }
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
