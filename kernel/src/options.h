/* The command line. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "output.h"

struct options {
    const char *source; /* a path, or - */
    struct output_plan output;
    const char *report;  /* a path or "fd:N"; NULL: none */
    const char *work;    /* folder for spilled runs */
    const char *contigs; /* a path; NULL: none but those of the source are declared */
    uint64_t memory;
    int progress_fd; /* -1: none */
    bool keep;       /* index a source that needs nothing else as it stands */
    bool refuse_empty;
    bool skip_bad_lines;
};

/* Wrong usage ends the process with EXIT_USAGE. */
void options_read(struct options *options, int argc, char **argv);

#endif
