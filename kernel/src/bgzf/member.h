/* One member of a compressed stream (a gzip member, a Zstandard frame): how far its decoder is. */
#ifndef MEMBER_H
#define MEMBER_H

enum member_state { MEMBER_MORE, MEMBER_ENDED, MEMBER_CORRUPT, MEMBER_TOO_WIDE };

#endif
