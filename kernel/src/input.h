/* Uncompressed chunks of a source, decoded by a thread of its own while the last one is worked on. */
#ifndef INPUT_H
#define INPUT_H

#include "bgzf/decoder.h"

enum { SLOTS = 8, SLOT_BYTES = 256 << 10, INPUT_MEMORY = (SLOTS + 1) * SLOT_BYTES }; /* what an open input holds */

struct input;

struct input *input_new(int fd, struct decode_limits limits); /* takes over `fd` */
void input_free(struct input *input);                         /* waits for a read that is under way */

/* The next chunk, valid until the next call; false at the end. A broken source ends the process. */
bool input_next(struct input *input, const char **data, size_t *n, const struct blocks **blocks);

int input_dup(const struct input *input); /* as decoder_dup */

const struct decoder *input_decoder(const struct input *input);

#endif
