/* What compressed data begin with. */
#ifndef MAGIC_H
#define MAGIC_H

#include <stdbool.h>
#include <stddef.h>

enum {
    BGZF_HEADER = 18,
    BGZF_FOOTER = 8
}; /* SAMv1 4.1: gzip header with the extra field BC, which holds the block's size */

size_t bgzf_block_size(const unsigned char *p, size_t n); /* of the BGZF block that starts there; 0: it is none */
bool is_gzip(const unsigned char *p, size_t n);
bool is_zstd_frame(const unsigned char *p, size_t n); /* of text or of anything else that readers skip (RFC 8878 3.1) */

const char *unreadable_compression(const unsigned char *p, size_t n); /* its name; NULL: none that is known */

#endif
