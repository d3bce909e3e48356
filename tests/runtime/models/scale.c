/* out[B, S, 4] = 2 * a[B, S, 4] + b[B, S, 4], and last[2*S] = 0, 1, 2, ...: symbolic sizes. */
#include "rt.h"

struct args {
    const rt_session *session;
    const float *a, *b;
    float *doubled, *out;
};

static void twice(void *opaque, int64_t begin, int64_t end, int thread)
{
    struct args *args = opaque;
    float *row = rt_scratch(args->session, thread);
    for (int64_t i = begin; i < end; i++) {
        for (int j = 0; j < 4; j++)
            row[j] = 2 * args->a[4 * i + j];
        for (int j = 0; j < 4; j++)
            args->doubled[4 * i + j] = row[j];
    }
}

static void add(void *opaque, int64_t begin, int64_t end, int thread)
{
    struct args *args = opaque;
    (void)thread;
    for (int64_t i = 4 * begin; i < 4 * end; i++)
        args->out[i] = args->doubled[i] + args->b[i];
}

enum { B, S, TWICE_S };

static int derive(rt_session *s)
{
    s->dims[TWICE_S] = rt_mul(2, s->dims[S]);
    if (s->dims[B] == 7)
        return rt_fail(s, RT_E_CONSTRAINT, "B may not be seven\n  got: 7");
    return 0;
}

static void sizes(const rt_session *s, int64_t *bytes)
{
    bytes[0] = rt_mul(rt_mul(s->dims[B], s->dims[S]), 4 * sizeof(float));
}

static int execute(rt_session *s)
{
    struct args args = {s, s->in[0], s->in[1], s->buf[0], s->out[0]};
    int64_t rows = s->dims[B] * s->dims[S];
    float *last = s->out[1];
    int64_t t = rt_begin(s);
    rt_parallel(s, twice, &args, rows);
    rt_end(s, 0, t);
    t = rt_begin(s);
    rt_parallel(s, add, &args, rows);
    rt_end(s, 1, t);
    for (int64_t i = 0; i < s->dims[TWICE_S]; i++)
        last[i] = (float)i;
    return 0;
}

static const tapeout_axis BS4[] = {{-1, B, "B"}, {-1, S, "S"}, {4, -1, NULL}};
static const tapeout_axis LAST[] = {{-1, TWICE_S, "2*S"}};
static const tapeout_symbol SYMBOLS[] = {{"B", 0, 1 << 20}, {"S", 1, (int64_t)1 << 50}};
static const tapeout_port INPUTS[] = {{"a", TAPEOUT_F32, 3, BS4}, {"b", TAPEOUT_F32, 3, BS4}};
static const tapeout_port OUTPUTS[] = {{"out", TAPEOUT_F32, 3, BS4},
                                       {"last", TAPEOUT_F32, 1, LAST}};
static const char *const KERNELS[] = {"twice", "add"};
static const rt_life LIVES[] = {{0, 1}};

const rt_model RT_NAME(model) = {
    .info = {.abi = TAPEOUT_ABI,
             .inputs = 2,
             .outputs = 2,
             .symbols = 2,
             .kernels = 2,
             .input = INPUTS,
             .output = OUTPUTS,
             .symbol = SYMBOLS,
             .kernel = KERNELS},
    .derived = 1,
    .derive = derive,
    .buffers = 1,
    .lives = LIVES,
    .sizes = sizes,
    .scratch_bytes = 4 * sizeof(float),
    .execute = execute,
};
