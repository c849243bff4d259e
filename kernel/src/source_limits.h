/* What a source may be at most. Beyond it a run ends with EXIT_LIMIT. Tests and fuzz targets make these small. */
#ifndef SOURCE_LIMITS_H
#define SOURCE_LIMITS_H

#include <stdint.h>

#define MIB ((uint64_t)1 << 20)

#ifndef MAX_BYTES
#define MAX_BYTES (65536 * MIB) /* of uncompressed text: beyond what one worker can sort */
#endif
#ifndef MAX_RATIO
#define MAX_RATIO 250u /* uncompressed to compressed bytes: real text reaches about 100; deflate's own end is 1032 */
#endif
#ifndef MAX_LINE
#define MAX_LINE (16 * MIB) /* bytes */
#endif
#ifndef MAX_HEADER
#define MAX_HEADER (64 * MIB) /* bytes */
#endif
#ifndef MOST_BAD_LINES
#define MOST_BAD_LINES                                                                                                 \
    100 /* so many are left out, if any are: a note names each; more are no mistakes but another format */
#endif
#ifndef MAX_CONTIGS
#define MAX_CONTIGS 1000000u
#endif

#endif
