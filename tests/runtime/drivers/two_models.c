/* Two models in one program: mlp.c under the prefix mlp, scale.c under the prefix scale. */
#define TAPEOUT_PREFIX mlp
#include "tapeout.h"
#undef TAPEOUT_PREFIX
#define TAPEOUT_PREFIX scale
#include "tapeout.h"

#include <stdio.h>

int main(void)
{
    static float weights[192], x[8], data[2 * 3 * 4];
    tapeout_session *first, *second;
    tapeout_tensor input = {x, {1, 8}, 2, TAPEOUT_F32}, output = {0};
    tapeout_tensor inputs[2] = {{data, {2, 3, 4}, 3, TAPEOUT_F32},
                                {data, {2, 3, 4}, 3, TAPEOUT_F32}};
    tapeout_tensor outputs[2] = {{0}, {0}};
    weights[0] = weights[128] = 3; /* y[0] = 9 x[0] */
    x[0] = 2;
    data[5] = 4;
    if (mlp_open_memory(weights, sizeof weights, 1, &first) || scale_open(NULL, 0, 2, &second))
        return 1;
    if (mlp_run(first, &input, &output) || scale_run(second, inputs, outputs))
        return 1;
    printf("%g %g\n", (double)((float *)output.data)[0], (double)((float *)outputs[0].data)[5]);
    printf("%s %s\n", mlp_describe()->input[0].name, scale_describe()->input[0].name);
    mlp_close(first);
    scale_close(second);
    return 0;
}
