/* See report.h. */
#define _GNU_SOURCE
#include "report.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The length of the valid UTF-8 sequence at `p`, 0 if there is none (RFC 3629). */
static size_t sequence(const unsigned char *p, size_t n)
{
    size_t length = p[0] < 0x80                   ? 1
                    : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
                    : (p[0] & 0xf0) == 0xe0       ? 3
                    : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                                  : 0;
    if (length == 0 || length > n)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    bool odd = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
               (p[0] == 0xf4 && p[1] > 0x8f);
    return odd ? 0 : length;
}

void json_string(FILE *to, const char *bytes, size_t n)
{
    putc('"', to);
    for (size_t i = 0; i < n;) {
        const unsigned char *p = (const unsigned char *)bytes + i;
        size_t length = sequence(p, n - i);
        if (!length)
            fputs("\xef\xbf\xbd", to); /* U+FFFD */
        else if (*p == '"' || *p == '\\')
            fprintf(to, "\\%c", *p);
        else if (*p < 0x20)
            fprintf(to, "\\u%04x", *p);
        else
            fwrite(p, 1, length, to);
        i += length ? length : 1;
    }
    putc('"', to);
}

static void text(FILE *to, const char *key, const char *value)
{
    fprintf(to, "\"%s\":", key);
    json_string(to, value, strlen(value));
    fputs(",\n", to);
}

static void number(FILE *to, const char *key, uint64_t value)
{
    fprintf(to, "\"%s\":%llu,\n", key, (unsigned long long)value);
}

static void truth(FILE *to, const char *key, bool value)
{
    fprintf(to, "\"%s\":%s,\n", key, value ? "true" : "false");
}

static void contig(FILE *to, const struct contig *c, bool first)
{
    fputs(first ? "\n[" : ",\n[", to);
    json_string(to, c->name, c->n);
    if (c->has_length)
        fprintf(to, ",%llu", (unsigned long long)c->length);
    else
        fputs(",null", to);
    fprintf(to, ",%u,%llu]", c->max_end, (unsigned long long)c->records);
}

/* Declared ones in the header's order, then those that only records name, in byte order. */
static void contigs(FILE *to, struct pass *p)
{
    bool first = true;
    fputs("\"contigs\":[", to);
    for (uint32_t i = 0; i < p->reader.declared_count; i++, first = false)
        contig(to, &p->contigs.all[p->reader.declared[i]], first);
    uint32_t *order = contigs_by_name(&p->contigs);
    for (uint32_t i = 0; i < p->contigs.seen_count; i++)
        if (!p->contigs.all[order[i]].declared) {
            contig(to, &p->contigs.all[order[i]], first);
            first = false;
        }
    free(order);
    fputs("],\n", to);
}

static void all(FILE *to, struct pass *p, const struct failure *failure)
{
    fputs("{\n", to);
    text(to, "outcome", failure ? "failed" : "done");
    if (failure) {
        text(to, "reason", failure->reason);
        text(to, "detail", failure->detail);
        number(to, "line", failure->line);
    } else {
        /* Only when all is over: a failure may come while other threads still change these. */
        const struct decoder *source = input_decoder(p->input);
        text(to, "compression", decoder_packing(source));
        truth(to, "without_end_marker", decoder_lacks_end_marker(source));
        number(to, "bytes_in", decoder_taken(source));
        text(to, "index", p->csi ? "csi" : "tbi");
        contigs(to, p);
    }
    truth(to, "ordered", p->sorted);
    truth(to, "restarted", p->restarted);
    truth(to, "kept", p->kept);
    number(to, "records", p->records);
    number(to, "record_bytes", p->record_bytes);
    number(to, "header_bytes", p->header.n);
    number(to, "header_lines", p->header_lines);
    number(to, "lines", p->lines.number);
    number(to, "text_bytes", p->lines.text_bytes);
    number(to, "max_end", p->max_end);
    number(to, "spills", p->spills);
    number(to, "spilled_bytes", p->spilled_bytes);
    number(to, "bytes_out", p->bytes_out);
    const struct bad_lines *bad = &p->reader.bad;
    if (bad->count)
        text(to, "first_bad_line", bad->first);
    fputs("\"bad_lines\":[", to);
    for (uint32_t i = 0; i < bad->count; i++)
        fprintf(to, "%s%llu", i ? "," : "", (unsigned long long)bad->numbers[i]);
    fputs("],\n\"counts\":{", to);
    bool first = true;
    for (int i = 0; i < ODDITIES; i++)
        if (p->reader.counts[i]) {
            fprintf(to, "%s\"%s\":%llu", first ? "" : ",", oddity_names[i], (unsigned long long)p->reader.counts[i]);
            first = false;
        }
    fputs("}\n}\n", to);
}

/* A stream that is there from the start: when memory has run out, there is none for another. */
static FILE *reserved;
static char reserved_buffer[4096], partial[PATH_MAX];

void report_reserve(void)
{
    reserved = fopen("/dev/null", "we");
    if (reserved)
        setvbuf(reserved, reserved_buffer, _IOFBF, sizeof reserved_buffer);
}

/* The reserved stream, writing to `fd`, which is its own from now on. NULL: it is not to be had. */
static FILE *stream_to(int fd)
{
    if (fd < 0)
        return NULL;
    if (!reserved)
        return fdopen(fd, "w");
    int moved = dup3(fd, fileno(reserved), O_CLOEXEC);
    close(fd);
    return moved < 0 ? NULL : reserved;
}

bool report_write(const char *target, struct pass *p, const struct failure *failure)
{
    int fd;
    bool whole = false;
    struct stat found;
    if (strncmp(target, "fd:", 3) == 0) {
        fd = atoi(target + 3);
    } else if (stat(target, &found) == 0 && !S_ISREG(found.st_mode)) {
        fd = open(target, O_WRONLY | O_CLOEXEC); /* a device or a pipe must not be replaced by a file */
    } else {
        int length = snprintf(partial, sizeof partial, "%s.part", target);
        if (length < 0 || (size_t)length >= sizeof partial)
            return false;
        fd = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        whole = true;
    }
    FILE *to = stream_to(fd);
    bool good = to != NULL;
    if (good) {
        all(to, p, failure);
        good = !ferror(to);
        good = fclose(to) == 0 && good;
        reserved = NULL;
    }
    if (whole) {
        if (good)
            good = rename(partial, target) == 0;
        else
            unlink(partial);
    }
    return good;
}
