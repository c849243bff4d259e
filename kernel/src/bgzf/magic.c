/* See magic.h. */
#include "bgzf/magic.h"

#include <string.h>

size_t bgzf_block_size(const unsigned char *p, size_t n)
{
    static const unsigned char magic[4] = {0x1f, 0x8b, 8, 4}, extra[6] = {6, 0, 'B', 'C', 2, 0};
    if (n < BGZF_HEADER || memcmp(p, magic, 4) != 0 || memcmp(p + 10, extra, 6) != 0)
        return 0;
    size_t size = (size_t)(p[16] | p[17] << 8) + 1;
    return size >= BGZF_HEADER + BGZF_FOOTER ? size : 0;
}

bool is_gzip(const unsigned char *p, size_t n)
{
    return n >= 2 && p[0] == 0x1f && p[1] == 0x8b;
}

bool is_zstd_frame(const unsigned char *p, size_t n)
{
    return n >= 4 &&
           (memcmp(p, "\x28\xb5\x2f\xfd", 4) == 0 || ((p[0] & 0xf0) == 0x50 && memcmp(p + 1, "\x2a\x4d\x18", 3) == 0));
}

const char *unreadable_compression(const unsigned char *p, size_t n)
{
    static const struct {
        const char *magic;
        size_t n;
        const char *name;
    } known[] = {
        {"BZh", 3, "bzip2"},
        {"\xfd"
         "7zXZ\0",
         6, "xz"},
        {"PK\3\4", 4, "zip"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (n >= known[i].n && memcmp(p, known[i].magic, known[i].n) == 0)
            return known[i].name;
    return NULL;
}
