/* See unzstd.h. */
#include "bgzf/unzstd.h"

#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "failure.h"

struct unzstd {
    ZSTD_DCtx *context;
};

struct unzstd *unzstd_new(void)
{
    struct unzstd *u = xrealloc(NULL, sizeof *u);
    u->context = ZSTD_createDCtx();
    if (!u->context || ZSTD_isError(ZSTD_DCtx_setParameter(u->context, ZSTD_d_windowLogMax, UNZSTD_WINDOW_LOG)))
        fail_memory("no decoder could be made");
    return u;
}

void unzstd_free(struct unzstd *u)
{
    if (u)
        ZSTD_freeDCtx(u->context);
    free(u);
}

void unzstd_restart(struct unzstd *u)
{
    (void)ZSTD_DCtx_reset(u->context, ZSTD_reset_session_only);
}

size_t unzstd_memory(const struct unzstd *u)
{
    return ZSTD_sizeof_DCtx(u->context);
}

enum member_state unzstd_run(struct unzstd *u, const void *from, size_t *used, void *into, size_t *made)
{
    ZSTD_inBuffer in = {from, *used, 0};
    ZSTD_outBuffer out = {into, *made, 0};
    size_t left = ZSTD_decompressStream(u->context, &out, &in);
    *used = in.pos;
    *made = out.pos;
    if (!ZSTD_isError(left))
        return left ? MEMBER_MORE : MEMBER_ENDED;
    switch (ZSTD_getErrorCode(left)) {
    case ZSTD_error_memory_allocation: fail_memory("the window of a Zstandard frame");
    case ZSTD_error_frameParameter_windowTooLarge: return MEMBER_TOO_WIDE;
    default: return MEMBER_CORRUPT;
    }
}
