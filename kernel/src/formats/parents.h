/*
 * The genes and transcripts a GTF names: where each of them lies, and whether it has a line of its own.
 *
 * One id may stand at several places: a gene symbol on both strands or far away, a transcript that was placed twice, a
 * placeholder that all genes share. Each place is a parent: same sequence, same strand, same gene, and within MAX_LOCUS of
 * its start, as gffread has it. The second and later ones of an id are called ID_dup1, ID_dup2, as UCSC's tables have it.
 */
#ifndef PARENTS_H
#define PARENTS_H

#include "formats/contigs.h"

/* What its own line would say, by the record that named it first: the source column, then the attributes. */
struct about {
    const char *bytes; /* NULL until known */
    uint32_t source_n, n;
};

struct parent {
    struct about about; /* of a transcript */
    uint32_t name;
    uint32_t start, end;
    uint32_t gene_name; /* of a transcript: NO_PARENT when no record says */
    uint32_t gene;      /* its parent, a number; NO_PARENT while that is not known */
    uint32_t repeat;    /* how many places of its id came before */
    char strand;
    bool transcript;
    bool like_gene; /* a transcript whose gene has the same id */
    bool present;   /* a line of its own was seen */
};

/* An id on a sequence. */
struct parent_name {
    const char *id; /* as it stands in the GTF */
    uint32_t id_n, hash, contig;
    struct about about; /* of a gene: all its places have it */
    uint32_t places;    /* how many there are */
    uint32_t latest;    /* of them the one made last */
    bool transcript;
};

enum { NO_PARENT = UINT32_MAX };

struct parents_slots {
    uint32_t *slots; /* open addressing; number + 1, 0 is empty */
    uint32_t mask;
};

/* A parent in a stretch of its sequence. */
struct parent_place {
    uint32_t name, gene_name, window;
    uint32_t parent;
    uint32_t next; /* the one before it in this stretch, or NO_PARENT */
    char strand;
};

struct parents {
    struct contigs *contigs; /* keeps the bytes */
    struct parent *all;      /* by number: in order of first mention */
    uint32_t count, room;
    struct parent_name *names;
    uint32_t name_count, name_room;
    struct parent_place *places;
    uint32_t place_count, place_room;
    struct parents_slots by_name, by_place;
    uint32_t missing;      /* of all how many have no line yet */
    uint32_t last[2];      /* the gene and the transcript met last: mostly the next ones too */
    uint32_t last_name[2]; /* likewise */
    size_t memory;         /* bytes held by all of this but what `contigs` counts */
};

/* Where a record lies, and whose it may be. */
struct parent_query {
    uint32_t name, gene_name; /* gene_name: of transcripts, or NO_PARENT */
    uint32_t start, end;
    char strand;
    bool near; /* not only what overlaps */
};

/* The number of an id. */
uint32_t parents_name(struct parents *parents, bool transcript, uint32_t contig, const char *id, size_t n);

/* The parent whose record this is, made when there is none; its extent now holds the record's. */
uint32_t parents_at(struct parents *parents, const struct parent_query *query);

void parents_mark_present(struct parents *parents, uint32_t number);

/* All is read: transcripts get their genes, genes reach over their transcripts. */
void parents_finish(struct parents *parents);

void parents_free(struct parents *parents);

#endif
