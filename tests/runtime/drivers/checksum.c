/* Prints the checksum of a weights file. usage: checksum WEIGHTS THREADS */
#include "tapeout.h"

#include <stdio.h>
#include <stdlib.h>

int main(int count, char **words)
{
    tapeout_session *session;
    if (count != 3 || tapeout_open(words[1], 0, atoi(words[2]), &session))
        return 1;
    printf("%llu\n", (unsigned long long)tapeout_checksum(session));
    tapeout_close(session);
    return 0;
}
