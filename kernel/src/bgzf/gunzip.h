/* One member of a gzip stream, piece by piece: ISA-L where it is there, else zlib. */
#ifndef GUNZIP_H
#define GUNZIP_H

#include <stddef.h>

#include "bgzf/member.h"

struct gunzip;

struct gunzip *gunzip_new(void);
void gunzip_free(struct gunzip *gunzip); /* NULL is fine */
void gunzip_restart(struct gunzip *gunzip);

/* `used` and `made` come in as what may be used and made and go out as what was. The trailer's checksum is checked. */
enum member_state gunzip_run(struct gunzip *gunzip, const void *from, size_t *used, void *into, size_t *made);

#endif
