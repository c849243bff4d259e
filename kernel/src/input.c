/* A ring of chunks between the decoding thread and its one reader. */
#define _GNU_SOURCE
#include "input.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct slot {
    char *data;
    size_t n;
    struct blocks blocks;
    struct failure failure; /* travels in order: lines before the broken place are judged first */
};

struct input {
    struct decoder *decoder;
    struct slot slots[SLOTS];
    unsigned filled, emptied; /* how many slots ever were; the difference is what waits */
    bool holding;             /* the reader still uses slot `emptied` */
    bool over;
    bool leaving; /* nobody will read on */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
};

static void *decode_all(void *of)
{
    struct input *in = of;
    for (bool more = true; more;) {
        pthread_mutex_lock(&in->lock);
        while (in->filled - in->emptied == SLOTS && !in->leaving)
            pthread_cond_wait(&in->changed, &in->lock);
        if (in->leaving) {
            pthread_mutex_unlock(&in->lock);
            break;
        }
        struct slot *slot = &in->slots[in->filled % SLOTS];
        pthread_mutex_unlock(&in->lock);
        slot->n = decoder_read(in->decoder, slot->data, SLOT_BYTES, &slot->blocks, &slot->failure);
        more = slot->n != 0;
        pthread_mutex_lock(&in->lock);
        in->filled++;
        pthread_cond_signal(&in->changed);
        pthread_mutex_unlock(&in->lock);
    }
    return NULL;
}

struct input *input_new(int fd, struct decode_limits limits)
{
    struct input *in = xrealloc(NULL, sizeof *in);
    memset(in, 0, sizeof *in);
    in->decoder = decoder_new(fd, limits);
    for (int i = 0; i < SLOTS; i++)
        in->slots[i].data = xrealloc(NULL, SLOT_BYTES);
    pthread_mutex_init(&in->lock, NULL);
    pthread_cond_init(&in->changed, NULL);
    if (pthread_create(&in->thread, NULL, decode_all, in) != 0)
        fail_memory("could not start a thread");
    return in;
}

bool input_next(struct input *in, const char **data, size_t *n, const struct blocks **blocks)
{
    if (in->over)
        return false;
    pthread_mutex_lock(&in->lock);
    if (in->holding) {
        in->emptied++;
        in->holding = false;
        pthread_cond_signal(&in->changed);
    }
    while (in->filled == in->emptied)
        pthread_cond_wait(&in->changed, &in->lock);
    struct slot *slot = &in->slots[in->emptied % SLOTS];
    pthread_mutex_unlock(&in->lock);
    if (!slot->n) {
        if (slot->failure.code)
            fail_with(&slot->failure);
        in->over = true;
        return false;
    }
    in->holding = true;
    *data = slot->data;
    *n = slot->n;
    *blocks = &slot->blocks;
    return true;
}

int input_dup(const struct input *in)
{
    return decoder_dup(in->decoder);
}

const struct decoder *input_decoder(const struct input *in)
{
    return in->decoder;
}

void input_free(struct input *in)
{
    pthread_mutex_lock(&in->lock);
    in->leaving = true;
    pthread_cond_signal(&in->changed);
    pthread_mutex_unlock(&in->lock);
    pthread_join(in->thread, NULL);
    decoder_free(in->decoder);
    for (int i = 0; i < SLOTS; i++)
        free(in->slots[i].data);
    pthread_mutex_destroy(&in->lock);
    pthread_cond_destroy(&in->changed);
    free(in);
}
