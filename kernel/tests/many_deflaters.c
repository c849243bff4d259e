/* Packs texts with deflaters at many addresses; says how many came out otherwise than from the first one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bgzf/deflate.h"

/* Short, so that few hashes are told apart; what it begins with comes again. */
enum { DEFLATERS = 64, TEXTS = 512, SIZE = 120, REPEAT = 8 };

int main(void)
{
    static struct deflater *all[DEFLATERS];
    int others = 0;
    for (int i = 0; i < DEFLATERS; i++)
        if (!(all[i] = deflater_new()))
            return EXIT_FAILURE;
    srand(1);
    for (int t = 0; t < TEXTS; t++) {
        char text[SIZE];
        unsigned char first[SIZE + DEFLATE_MORE], other[SIZE + DEFLATE_MORE];
        for (int i = 0; i < SIZE; i++)
            text[i] = (char)('a' + rand() % 20);
        memcpy(text + SIZE / 2, text, REPEAT);
        size_t n = deflater_pack(all[0], first, text, SIZE);
        for (int i = 1; i < DEFLATERS; i++)
            others += deflater_pack(all[i], other, text, SIZE) != n || memcmp(first, other, n) != 0;
    }
    for (int i = 0; i < DEFLATERS; i++)
        deflater_free(all[i]);
    printf("%d\n", others);
}
