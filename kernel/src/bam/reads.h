/*
 * `gooseherd-intervals reads`: the index of a sorted BAM, byte for byte that of `samtools index`, and how its reads lie
 * (density.h), in the one pass that the index takes anyway. Counted are the records that are not unmapped (flag 4), from
 * their first base on the sequence to their last. Without --index the BAM is only counted.
 *
 * It complains in htslib's words and ends with status 1, as samtools does.
 */
#ifndef READS_H
#define READS_H

int reads_main(int argc, char **argv);

#endif
