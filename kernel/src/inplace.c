/*
 * See inplace.h. The first line that breaks the order, or that would be changed or dropped, ends the attempt: mostly in
 * the first chunk. The index is the one that tabix makes of the same file.
 */
#define _GNU_SOURCE
#include "inplace.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum verdict { KEPT, NOT_KEPT, NEEDS_CSI };
enum { LOOK_EVERY = 4096 };

static enum verdict give_up(struct pass *p, enum verdict why)
{
    if (p->output)
        output_drop(p->output);
    p->output = NULL;
    return why;
}

static enum verdict judge(struct pass *p, bool csi, struct text *top)
{
    struct record record;
    const char *line;
    size_t n;
    uint64_t seen = 0, before = 0;
    int64_t from, to;
    p->csi = csi;
    for (; lines_next(&p->lines, &line, &n); before = lines_offset(&p->lines)) {
        if (seen++ % LOOK_EVERY == 0) {
            if (reader_changed(&p->reader) || !decoder_is_blocks(input_decoder(p->input)))
                return give_up(p, NOT_KEPT);
            (void)pass_memory_left(p, 0);
            pass_tell(p, "read", false);
        }
        pass_refuse_cut_line(p);
        if (!reader_line(&p->reader, p->lines.number, line, n, &record)) {
            if (p->records)
                return give_up(p, NOT_KEPT);
            text_add(top, line, n);
            text_add(top, "\n", 1);
            continue;
        }
        format_interval(p->options->output.format, record.start, record.end, &from, &to);
        if (record.text != line || record.n != n || pass_breaks_order(p, &record))
            return give_up(p, NOT_KEPT);
        if (!csi && to > TBI_END)
            return give_up(p, NEEDS_CSI);
        if (!p->output)
            p->output = output_start_index_only(&p->options->output, csi, before);
        pass_count(p, &record, to);
        output_index_record(p->output, p->contigs.seen_count - 1, record.start, record.end, record.ends_elsewhere,
                            lines_offset(&p->lines));
    }
    p->header.n = 0;
    if (!p->records || p->lines.open_end || !decoder_is_blocks(input_decoder(p->input)) ||
        decoder_lacks_end_marker(input_decoder(p->input)))
        return give_up(p, NOT_KEPT);
    reader_finish(&p->reader, true, true, &p->header);
    if (reader_changed(&p->reader) || p->header.n != top->n ||
        (top->n && memcmp(p->header.bytes, top->bytes, top->n) != 0))
        return give_up(p, NOT_KEPT);
    uint32_t *order = contigs_by_appearance(&p->contigs);
    output_finish_index_only(p->output, &p->contigs, order, before);
    p->output = NULL;
    free(order);
    return KEPT;
}

/* As before the first byte was read. */
static void read_anew(struct pass *p)
{
    const struct options *options = p->options;
    int fd = p->again;
    p->again = -1;
    pass_free(p);
    if (lseek(fd, 0, SEEK_SET) != 0)
        fail_io("going back in the source");
    pass_start(p, options, fd);
}

bool index_in_place(struct pass *p)
{
    if (reader_converts(&p->reader))
        return false;
    p->again = input_dup(p->input);
    struct text top = {0};
    enum verdict verdict = judge(p, false, &top);
    if (p->again < 0 && verdict != KEPT)
        fail(verdict == NEEDS_CSI ? EXIT_WANTS_CSI : EXIT_NOT_KEPT, TOOL_FAILED,
             "not to be kept as it is, and what came by a pipe cannot be read again");
    if (verdict == NEEDS_CSI) {
        read_anew(p);
        p->again = input_dup(p->input);
        top.n = 0;
        verdict = judge(p, true, &top);
    }
    free(top.bytes);
    if (verdict != KEPT) {
        read_anew(p);
        return false;
    }
    p->kept = true;
    pass_done(p);
    return true;
}
