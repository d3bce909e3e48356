/* y[1,4] = relu(x[1,8] @ W1[8,16]) @ W2[16,4]: fixed sizes, planned by the "compiler". */
#include "rt.h"

#ifndef WEIGHTS_BYTES
#define WEIGHTS_BYTES ((8 * 16 + 16 * 4) * 4)
#endif

static void product(const float *x, const float *w, float *y, int k, int n)
{
    for (int j = 0; j < n; j++) {
        float sum = 0;
        for (int i = 0; i < k; i++)
            sum += x[i] * w[i * n + j];
        y[j] = sum;
    }
}

static int execute(rt_session *s)
{
    const float *weights = (const float *)(const void *)s->weights;
    float *hidden = s->buf[0];
    int64_t t = rt_begin(s);
    product(s->in[0], weights, hidden, 8, 16);
    for (int j = 0; j < 16; j++)
        hidden[j] = hidden[j] > 0 ? hidden[j] : 0;
    rt_end(s, 0, t);
    t = rt_begin(s);
    product(hidden, weights + 8 * 16, s->out[0], 16, 4);
    rt_end(s, 1, t);
    return 0;
}

static const tapeout_axis X[] = {{1, -1, NULL}, {8, -1, NULL}};
static const tapeout_axis Y[] = {{1, -1, NULL}, {4, -1, NULL}};
static const tapeout_port INPUTS[] = {{"x", TAPEOUT_F32, 2, X}};
static const tapeout_port OUTPUTS[] = {{"y", TAPEOUT_F32, 2, Y}};
static const char *const KERNELS[] = {"product_relu", "product"};
static const rt_life LIVES[] = {{0, 1}};
static const int64_t OFFSETS[] = {0};

const rt_model RT_NAME(model) = {
    .info = {.abi = TAPEOUT_ABI,
             .inputs = 1,
             .outputs = 1,
             .kernels = 2,
             .input = INPUTS,
             .output = OUTPUTS,
             .kernel = KERNELS,
             .weights_bytes = WEIGHTS_BYTES},
    .buffers = 1,
    .lives = LIVES,
    .offsets = OFFSETS,
    .arena_bytes = 64,
    .execute = execute,
};
