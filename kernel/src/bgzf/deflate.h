/* The quickest compression: one block of text by ISA-L, always to the same bytes. */
#ifndef DEFLATE_H
#define DEFLATE_H

#include <stddef.h>

enum { DEFLATE_MORE = 5 }; /* bytes that a block may become longer */

struct deflater;

struct deflater *deflater_new(void); /* NULL: out of memory */
void deflater_free(struct deflater *deflater);

size_t deflater_memory(void); /* bytes of each */

/* At most 64 KB of text into `to`, as a stream of its own (RFC 1951); its length. */
size_t deflater_pack(struct deflater *deflater, unsigned char *to, const char *text, size_t n);

#endif
