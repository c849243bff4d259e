/* The sequence names of a file: each gets a number, a place in the output's order, and counts. */
#ifndef CONTIGS_H
#define CONTIGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct contig {
    const char *name; /* not terminated; any bytes but TAB and newline */
    uint32_t n;
    uint32_t hash;
    uint32_t place;   /* in the output's order, once contigs_by_name or contigs_by_appearance has said */
    uint32_t max_end; /* highest end of its records, as the index counts */
    uint64_t records;
    uint64_t length; /* as declared */
    bool declared, has_length;
    bool undeclared; /* records name it, the header should have declared it */
};

/* A name of up to seven bytes, as they lie in memory with zeros behind them. */
struct short_name {
    uint64_t word; /* 0: none */
    uint32_t number;
};

enum { SHORT_NAMES_BITS = 8 };

struct contigs {
    struct contig *all; /* by number: in order of first mention, declared or seen */
    uint32_t count, room;
    uint32_t *seen; /* numbers of those with records, in order of appearance */
    uint32_t seen_count, seen_room;
    uint32_t *slots; /* open addressing; number + 1, 0 is empty */
    uint32_t slot_mask;
    uint64_t secret[2];
    struct pool_block *blocks; /* the names, in a chain of blocks */
    char *pool;                /* what is left of the last one */
    size_t pool_left;
    size_t memory;    /* bytes held by all of this */
    uint64_t windows; /* of 16 kb up to the ends of all contigs: what an index may have to hold */
    uint32_t last;    /* the number looked up last: mostly the next one too */
    struct short_name short_names[1 << SHORT_NAMES_BITS]; /* some of those met lately */
};

void contigs_start(struct contigs *contigs);
void contigs_free(struct contigs *contigs);

/* The number of that name. More names than MAX_CONTIGS end the process; `line` and `what` are for its words. */
uint32_t contigs_intern(struct contigs *contigs, const char *name, size_t n, const char *what);

/* Where the name that begins a line ends, at a TAB, if it has a number, which becomes the last one then; else NULL. */
const char *contigs_find_in_line(struct contigs *contigs, const char *line, size_t n);

/* A record was given on. */
void contigs_count_record(struct contigs *contigs, uint32_t number, uint32_t end);
void contigs_forget_records(struct contigs *contigs); /* they will all be noted again */

/* Give every seen contig its place; the list by place has `seen_count` numbers and is the caller's to free. */
uint32_t *contigs_by_name(struct contigs *contigs);
uint32_t *contigs_by_appearance(struct contigs *contigs);

/* A hash of these bytes whose key no stranger knows, and a copy of them that stays. */
uint32_t contigs_hash(const struct contigs *contigs, const char *bytes, size_t n);
const char *contigs_copy_bytes(struct contigs *contigs, const char *bytes, size_t n);

int contig_compare(const struct contig *a, const struct contig *b); /* byte order of names */

#endif
