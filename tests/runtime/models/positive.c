/* index[K] = where x[N] > 0, value[K] = 10 * those: K is known only while running. */
#include "rt.h"

enum { N, K };

static int execute(rt_session *s)
{
    const int64_t *x = s->in[0];
    int64_t n = s->dims[N], count = 0;
    int code = rt_late(s, 0, n * (int64_t)sizeof(int64_t));
    if (code)
        return code;
    int64_t *found = s->late[0];
    for (int64_t i = 0; i < n; i++) {
        if (x[i] == -999)
            return rt_fail(s, RT_E_VALUE, "-999 is not a value\n  place: %lld", (long long)i);
        if (x[i] > 0)
            found[count++] = i;
    }
    s->dims[K] = count;
    if ((code = rt_output(s, 0)) || (code = rt_output(s, 1)))
        return code;
    int64_t *index = s->out[0], *value = s->out[1];
    for (int64_t i = 0; i < count; i++) {
        index[i] = found[i];
        value[i] = 10 * x[found[i]];
    }
    return 0;
}

static const tapeout_axis AXIS_N[] = {{-1, N, "N"}};
static const tapeout_axis AXIS_K[] = {{-1, K, "positives"}};
static const tapeout_symbol SYMBOLS[] = {{"N", 0, 1 << 20}};
static const tapeout_port INPUTS[] = {{"x", TAPEOUT_I64, 1, AXIS_N}};
static const tapeout_port OUTPUTS[] = {{"index", TAPEOUT_I64, 1, AXIS_K},
                                       {"value", TAPEOUT_I64, 1, AXIS_K}};
static const char *const KERNELS[] = {"positive"};

const rt_model RT_NAME(model) = {
    .info = {.abi = TAPEOUT_ABI,
             .inputs = 1,
             .outputs = 2,
             .symbols = 1,
             .kernels = 1,
             .input = INPUTS,
             .output = OUTPUTS,
             .symbol = SYMBOLS,
             .kernel = KERNELS},
    .late_dims = 1,
    .late = 1,
    .execute = execute,
};
