/* Runs scale.c at sizes that no machine has memory for; the inputs' data is never reached. Then at
 * a small one: a refused call leaves the session usable. */
#include "tapeout.h"

#include <stdio.h>

static float data[4];

static int run(tapeout_session *session, int64_t B, int64_t S)
{
    tapeout_tensor inputs[2] = {{data, {B, S, 4}, 3, TAPEOUT_F32},
                                {data, {B, S, 4}, 3, TAPEOUT_F32}};
    tapeout_tensor outputs[2] = {{0}, {0}};
    int code = tapeout_run(session, inputs, outputs);
    if (code)
        printf("%s\n", tapeout_error(session));
    return code;
}

int main(void)
{
    tapeout_session *session;
    if (tapeout_open(NULL, 0, 2, &session))
        return 1;
    if (run(session, 0, (int64_t)1 << 50) != 516) /* an output of 2^53 bytes */
        return 2;
    if (run(session, 1 << 20, (int64_t)1 << 50) != 516) /* a buffer of more than 2^63 */
        return 3;
    if (run(session, 1, 1))
        return 4;
    tapeout_close(session);
    return 0;
}
