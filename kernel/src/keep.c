/*
 * See keep.h. The first line that breaks the order, or that would be changed or dropped, ends the attempt: mostly in
 * the first chunk. The index is the one that tabix makes of the same file.
 */
#define _GNU_SOURCE
#include "keep.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum verdict { KEPT, NOT_KEPT, NEEDS_CSI };
enum { LOOK_EVERY = 4096 };

static enum verdict give_up(struct ingest *g, enum verdict why)
{
    if (g->output)
        output_drop(g->output);
    g->output = NULL;
    return why;
}

static enum verdict judge(struct ingest *g, bool csi, struct text *top)
{
    struct record record;
    const char *line;
    size_t n;
    uint64_t seen = 0, before = 0;
    int64_t from, to;
    g->csi = csi;
    for (; lines_next(&g->lines, &line, &n); before = lines_offset(&g->lines)) {
        if (seen++ % LOOK_EVERY == 0) {
            if (reader_changed(&g->reader) || !decoder_is_blocks(input_decoder(g->input)))
                return give_up(g, NOT_KEPT);
            (void)ingest_room(g);
            ingest_tell(g, "read");
        }
        if (!reader_line(&g->reader, g->lines.number, line, n, &record)) {
            if (g->records)
                return give_up(g, NOT_KEPT);
            text_add(top, line, n);
            text_add(top, "\n", 1);
            continue;
        }
        format_interval(g->options->output.format, record.start, record.end, &from, &to);
        if (record.text != line || record.n != n || ingest_breaks_order(g, &record))
            return give_up(g, NOT_KEPT);
        if (!csi && to > TBI_END)
            return give_up(g, NEEDS_CSI);
        if (!g->output)
            g->output = output_start_kept(&g->options->output, csi, before);
        ingest_note(g, &record, to);
        output_record_kept(g->output, g->contigs.seen_count - 1, record.start, record.end, lines_offset(&g->lines));
    }
    g->header.n = 0;
    if (!g->records || g->lines.open_end || !decoder_is_blocks(input_decoder(g->input)) ||
        decoder_lacks_end_marker(input_decoder(g->input)))
        return give_up(g, NOT_KEPT);
    reader_finish(&g->reader, true, true, &g->header);
    if (reader_changed(&g->reader) || g->header.n != top->n ||
        (top->n && memcmp(g->header.bytes, top->bytes, top->n) != 0))
        return give_up(g, NOT_KEPT);
    uint32_t *order = contigs_by_appearance(&g->contigs);
    output_finish_kept(g->output, &g->contigs, order, before);
    g->output = NULL;
    free(order);
    return KEPT;
}

/* As before the first byte was read. */
static void again(struct ingest *g)
{
    const struct options *options = g->options;
    int fd = g->again;
    g->again = -1;
    ingest_free(g);
    if (lseek(fd, 0, SEEK_SET) != 0)
        fail_io("going back in the source");
    ingest_start(g, options, fd);
}

bool keep_source(struct ingest *g)
{
    if (reader_converts(&g->reader))
        return false;
    g->again = input_again(g->input);
    struct text top = {0};
    enum verdict verdict = judge(g, false, &top);
    if (g->again < 0 && verdict != KEPT)
        fail(verdict == NEEDS_CSI ? EXIT_WANTS_CSI : EXIT_NOT_KEPT, TOOL_FAILED,
             "not to be kept as it is, and what came by a pipe cannot be read again");
    if (verdict == NEEDS_CSI) {
        again(g);
        g->again = input_again(g->input);
        top.n = 0;
        verdict = judge(g, true, &top);
    }
    free(top.bytes);
    if (verdict != KEPT)
        again(g);
    return verdict == KEPT;
}
