/* One Zstandard frame, piece by piece, by libzstd. */
#ifndef UNZSTD_H
#define UNZSTD_H

#include <stddef.h>

#include "bgzf/member.h"

/* A frame says how much of its own text must be at hand to decode it. Beyond this it is refused, as zstd's own program
 * does unless it is told to do otherwise. */
enum { UNZSTD_WINDOW_LOG = 27 };

struct unzstd;

struct unzstd *unzstd_new(void);
void unzstd_free(struct unzstd *unzstd); /* NULL is fine */
void unzstd_restart(struct unzstd *unzstd);
size_t unzstd_memory(const struct unzstd *unzstd); /* bytes held: mostly the window */

/* As gunzip_run. A frame's checksum is checked where it has one; frames that hold no text end at once. */
enum member_state unzstd_run(struct unzstd *unzstd, const void *from, size_t *used, void *into, size_t *made);

#endif
