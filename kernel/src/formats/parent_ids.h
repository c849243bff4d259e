/* How the ids of genes and transcripts stand in GFF3: escaped, and told apart where one id has several places. */
#ifndef PARENT_IDS_H
#define PARENT_IDS_H

#include "formats/parents.h"
#include "formats/text.h"

/* To memory with room for three times the id and 64 bytes; gives the end. */
char *write_parent_id(char *to, const struct parents *parents, uint32_t number);
void add_parent_id(struct text *to, const struct parents *parents, uint32_t number);

#endif
