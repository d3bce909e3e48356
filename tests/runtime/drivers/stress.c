/* Runs scale.c at many sizes, sometimes after a pause in which the pool falls asleep, and checks
 * every value. usage: stress THREADS RUNS */
#define _GNU_SOURCE
#include "tapeout.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static float a[16 * 64 * 4], b[16 * 64 * 4];

static int wrong(tapeout_session *session, int64_t B, int64_t S)
{
    tapeout_tensor inputs[2] = {{a, {B, S, 4}, 3, TAPEOUT_F32}, {b, {B, S, 4}, 3, TAPEOUT_F32}};
    tapeout_tensor outputs[2] = {{0}, {0}};
    if (tapeout_run(session, inputs, outputs)) {
        fprintf(stderr, "%s\n", tapeout_error(session));
        return 1;
    }
    const float *out = outputs[0].data, *last = outputs[1].data;
    for (int64_t i = 0; i < B * S * 4; i++)
        if (out[i] != 2 * a[i] + b[i])
            return 1;
    for (int64_t i = 0; i < 2 * S; i++)
        if (last[i] != (float)i)
            return 1;
    return outputs[1].dims[0] != 2 * S;
}

int main(int count, char **words)
{
    tapeout_session *session;
    if (count != 3 || tapeout_open(NULL, 0, atoi(words[1]), &session))
        return 2;
    for (int i = 0; i < 16 * 64 * 4; i++) {
        a[i] = (float)(i % 97);
        b[i] = (float)(i % 89);
    }
    uint32_t random = 1;
    for (int run = 0; run < atoi(words[2]); run++) {
        random = random * 1664525 + 1013904223;
        int64_t B = (random >> 8) % 17, S = 1 + (random >> 16) % 64;
        if (B == 7)
            continue; /* the model refuses it */
        if (run % 64 == 0)
            nanosleep(&(struct timespec){0, 300000}, NULL);
        if (wrong(session, B, S)) {
            fprintf(stderr, "wrong at run %d, B %d, S %d\n", run, (int)B, (int)S);
            return 1;
        }
    }
    tapeout_close(session);
    return 0;
}
