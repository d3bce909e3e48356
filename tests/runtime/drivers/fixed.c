/* A program without Python: runs mlp.c from a weights file and prints its four outputs.
 * usage: fixed WEIGHTS OFFSET THREADS */
#include "tapeout.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int count, char **words)
{
    tapeout_session *session;
    float x[8];
    if (count != 4)
        return 2;
    if (tapeout_open(words[1], atoll(words[2]), atoi(words[3]), &session)) {
        fprintf(stderr, "%s\n", tapeout_error(NULL));
        return 1;
    }
    for (int i = 0; i < 8; i++)
        x[i] = (float)(i - 3);
    tapeout_tensor input = {x, {1, 8}, 2, TAPEOUT_F32}, output = {0};
    if (tapeout_run(session, &input, &output)) {
        fprintf(stderr, "%s\n", tapeout_error(session));
        return 1;
    }
    for (int i = 0; i < 4; i++)
        printf("%.6g\n", (double)((float *)output.data)[i]);
    tapeout_close(session);
    return 0;
}
