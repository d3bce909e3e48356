/* Runs positive.c with session-owned and with caller's buffers, at sizes that grow and shrink. */
#include "tapeout.h"

#include <stdio.h>

static int64_t x[5000], index_of[5000], value_of[5000];

static int wrong(int64_t n, const tapeout_tensor *outputs)
{
    const int64_t *index = outputs[0].data, *value = outputs[1].data;
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++)
        if (x[i] > 0) {
            if (count >= outputs[0].dims[0] || index[count] != i || value[count] != 10 * x[i])
                return 1;
            count++;
        }
    return count != outputs[0].dims[0] || count != outputs[1].dims[0];
}

int main(void)
{
    tapeout_session *session;
    if (tapeout_open(NULL, 0, 1, &session))
        return 1;
    for (int64_t i = 0; i < 5000; i++)
        x[i] = i * 7919 % 13 - 6;
    for (int64_t n = 0; n < 5000; n = n * 3 / 2 + 1) {
        tapeout_tensor input = {x, {n}, 1, TAPEOUT_I64};
        tapeout_tensor own[2] = {{0}, {0}};
        tapeout_tensor mine[2] = {{index_of, {5000}, 1, TAPEOUT_I64},
                                  {value_of, {5000}, 1, TAPEOUT_I64}};
        tapeout_tensor shapes[2];
        if (tapeout_output_shapes(session, &input, shapes) || shapes[0].dims[0] != -1)
            return 2;
        if (tapeout_run(session, &input, own) || wrong(n, own))
            return 3;
        if (tapeout_run(session, &input, mine) || wrong(n, mine) || mine[0].data != index_of)
            return 4;
    }
    tapeout_tensor input = {x, {5000}, 1, TAPEOUT_I64};
    tapeout_tensor tight[2] = {{index_of, {5}, 1, TAPEOUT_I64}, {value_of, {5}, 1, TAPEOUT_I64}};
    if (tapeout_run(session, &input, tight) != 515)
        return 5;
    printf("%s\n", tapeout_error(session));
    tapeout_close(session);
    return 0;
}
