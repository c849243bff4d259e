/* The genes and transcripts a GTF names: where each of them lies, and whether it has a line of its own. */
#ifndef PARENTS_H
#define PARENTS_H

#include "formats/contigs.h"

struct parent {
    const char *id;    /* as it stands in the GTF */
    const char *about; /* what its own line would say, of the record that named it first; NULL until known */
    uint32_t id_n, source_n, about_n; /* `about`: the source column, then the attributes */
    uint32_t hash;
    uint32_t contig, start, end;
    uint32_t gene; /* of a transcript: its gene's number, or NO_PARENT */
    bool transcript;
    bool like_gene; /* a transcript whose gene has the same id */
    bool present;   /* a line of its own was seen */
    char strand;
};

enum { NO_PARENT = UINT32_MAX };

struct parents {
    struct contigs *contigs; /* keeps the bytes */
    struct parent *all;      /* by number: in order of first mention */
    uint32_t count, room;
    uint32_t *slots; /* open addressing; number + 1, 0 is empty */
    uint32_t slot_mask;
    uint32_t missing; /* of all how many have no line yet */
    uint32_t last[2]; /* the gene and the transcript asked for last: mostly the next ones too */
    size_t memory;    /* bytes held by all of this but what `contigs` counts */
};

/* The number of that gene or transcript of that sequence, new ones made; its extent now holds the record's. */
uint32_t parents_intern(struct parents *parents, bool transcript, uint32_t contig, const char *id, size_t n,
                        uint32_t start, uint32_t end);

void parents_mark_present(struct parents *parents, uint32_t number);
void parents_free(struct parents *parents);

#endif
