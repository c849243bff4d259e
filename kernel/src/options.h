/* The command line. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "output.h"

struct options {
    const char *source; /* a path, or - */
    struct output_plan output;
    const char *report; /* a path or "fd:N"; NULL: none */
    const char *work;   /* folder for spilled runs */
    uint64_t memory;
    int progress_fd; /* -1: none */
    bool by_end;     /* ties: the shorter record first */
    bool by_name;    /* only byte order of names counts as sorted */
    size_t fan;      /* most runs merged at once */
    bool keep;       /* index a source that needs nothing else as it stands */
    bool refuse_empty;
    uint64_t max_bytes, max_ratio;
    size_t max_line, max_header;
    uint32_t max_contigs;
};

/* Wrong usage ends the process with EXIT_USAGE. */
void options_read(struct options *options, int argc, char **argv);

#endif
