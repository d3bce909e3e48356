/* Prints the checksum of a weights file, mapped and as any bytes. usage: checksum WEIGHTS THREADS */
#include "tapeout.h"

#include <stdio.h>
#include <stdlib.h>

static char data[4 << 20];

int main(int count, char **words)
{
    tapeout_session *session;
    if (count != 3 || tapeout_open(words[1], 0, atoi(words[2]), &session))
        return 1;
    FILE *file = fopen(words[1], "rb");
    int64_t bytes = file ? (int64_t)fread(data, 1, sizeof data, file) : 0;
    printf("%llu %llu\n", (unsigned long long)tapeout_checksum(session),
           (unsigned long long)tapeout_checksum_of(data, bytes));
    if (file)
        fclose(file);
    tapeout_close(session);
    return 0;
}
