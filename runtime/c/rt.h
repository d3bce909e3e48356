/* rt.h: what generated code stands on. Not for users of a model; they include tapeout.h.
 *
 * A generated model is one `const rt_model RT_NAME(model)` and the functions it names. A kernel in
 * a file of its own is declared `RT_NAME(kernel_name)`, so that models can be linked together. */

#ifndef TAPEOUT_RT_H
#define TAPEOUT_RT_H

#include "tapeout.h"

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define RT_PRINTF(text, first) __attribute__((format(printf, text, first)))
#define RT_LIKELY(x) __builtin_expect(!!(x), 1)
#else
#define RT_PRINTF(text, first)
#define RT_LIKELY(x) (x)
#endif

#define RT_NAME(name) TAPEOUT_NAME(name)
#define rt_fail RT_NAME(rt_fail)
#define rt_late RT_NAME(rt_late)
#define rt_late_keep RT_NAME(rt_late_keep)
#define rt_late_swap RT_NAME(rt_late_swap)
#define rt_output RT_NAME(rt_output)
#define rt_parallel_wake RT_NAME(rt_parallel_wake)
#define rt_now RT_NAME(rt_now)

typedef tapeout_session rt_session;

/* Steps of execute() from the one that first writes a buffer to the one that last reads it. */
typedef struct rt_life {
    int32_t first, last;
} rt_life;

typedef struct rt_model {
    tapeout_info info;

    /* Slots of session->dims, in this order:
     *   [0, info.symbols)     symbols, bound from the inputs' axes by the runtime, which checks
     *                         ranges and equality; every symbol must be an axis of some input;
     *   [.., + derived)       sizes computed from those by derive();
     *   [.., + late_dims)     sizes known only while running: -1 when execute() begins, set by it.
     * An axis of an input has a slot below info.symbols; one of an output, any slot. */
    int32_t derived, late_dims;

    /* Compute the derived slots and check what else must hold between symbols. 0, or rt_fail().
     * May be NULL when derived is 0. */
    int (*derive)(rt_session *session);

    /* The arena. Buffers that share memory (in place) are one buffer with the joint life.
     * Fixed sizes: sizes is NULL, and offsets[buffers], 64-byte aligned, and arena_bytes were
     * planned by the compiler. Else sizes() writes the bytes of each buffer from session->dims and
     * session->threads (for memory per thread); use rt_mul and rt_add, which saturate. It runs
     * when the symbols change, so late slots are not for it. */
    int32_t buffers;
    const rt_life *lives;
    const int64_t *offsets;
    int64_t arena_bytes;
    void (*sizes)(const rt_session *session, int64_t *bytes);

    int32_t late;          /* number of rt_late() slots */
    int64_t scratch_bytes; /* per thread, fixed */

    /* Run all steps. 0, or what rt_fail(), rt_late() or rt_output() returned. */
    int (*execute)(rt_session *session);
} rt_model;

/* The generated model. */
extern const rt_model RT_NAME(model);

/* A task function: do tasks [begin, end); thread is in [0, session->threads). */
typedef void rt_task(void *args, int64_t begin, int64_t end, int thread);

struct tapeout_session {
    /* What generated code reads. */
    const rt_model *model;
    const char *weights;          /* 4096-byte aligned when the artifact was written by us */
    void **in;                    /* what each input of this run holds */
    void **out;                   /* and room for each output, where no late size is involved */
    int64_t *dims;                /* values of all slots */
    void **buf;                   /* arena buffers, 64-byte aligned */
    void **late;                  /* rt_late() memory by slot, 64-byte aligned, NULL before */
    char *scratch;
    int64_t scratch_stride;
    int threads;

    /* What only the runtime touches. */
    tapeout_tensor *outputs; /* of this run */
    int profiling;
    int bound;   /* dims hold a checked binding */
    int planned; /* buf agrees with dims */
    tapeout_counter *counters;
    struct rt_block *late_blocks;
    struct rt_block *input_blocks; /* where inputs have to be brought to the steps' memory */
    struct rt_block *output_blocks;
    struct rt_block *arena;
    struct rt_block *scratch_block;
    struct rt_plan *plan;
    struct rt_pool *pool;
    struct rt_device *device; /* NULL on a CPU */
    const char *mapped;       /* the weights as the caller has them */
    void *map;
    int64_t map_bytes;
    int64_t weights_bytes;
    char *error;
};

/* Record an error: code 5xx, a first line "what", then lines "  label: value" after "\n".
 * Returns the code, to be returned from execute() or derive(). */
int rt_fail(rt_session *session, int code, const char *format, ...) RT_PRINTF(3, 4);

/* Codes that generated code may use. */
#define RT_E_CONSTRAINT 514 /* sizes of inputs disagree */
#define RT_E_MEMORY 516     /* out of memory, or a size overflows */
#define RT_E_VALUE 517      /* a value in an input is not allowed, such as an index out of range */

/* Memory for a size known only while running: grows only, content is lost when it grows.
 * Sets session->late[slot]. 0 or a code. */
int rt_late(rt_session *session, int32_t slot, int64_t bytes);

/* The same, for what grows piece by piece: the first `keep` bytes stay when it moves. */
int rt_late_keep(rt_session *session, int32_t slot, int64_t bytes, int64_t keep);

/* Two slots change their memory: what a loop has written is what it reads next. */
void rt_late_swap(rt_session *session, int32_t a, int32_t b);

/* For an output with late sizes, once its slots are set: check or allocate its memory, then
 * session->out[output] is ready. 0 or a code. */
int rt_output(rt_session *session, int32_t output);

void rt_parallel_wake(rt_session *session, rt_task *task, void *args, int64_t tasks);

/* Thread t of T does tasks [t*n/T, (t+1)*n/T), the caller is thread 0; returns when all are done.
 * The split depends on nothing else. Not from inside a task. */
static inline void rt_parallel(rt_session *session, rt_task *task, void *args, int64_t tasks)
{
    if (session->threads == 1 || tasks <= 1) {
        if (tasks > 0)
            task(args, 0, tasks, 0);
        return;
    }
    rt_parallel_wake(session, task, args, tasks);
}

/* scratch_bytes of memory of one thread, 64-byte aligned; content is undefined. */
static inline void *rt_scratch(const rt_session *session, int thread)
{
    return session->scratch + thread * session->scratch_stride;
}

#include "access.h"

/* Nanoseconds of a monotonic clock. */
int64_t rt_now(void);

/* Around one step: int64_t t = rt_begin(s); ...; rt_end(s, kernel, t); with the kernel's place in
 * info.kernel. Costs one load and branch each while nobody profiles. */
static inline int64_t rt_begin(const rt_session *session)
{
    return session->profiling ? rt_now() : 0;
}

static inline void rt_end(rt_session *session, int32_t kernel, int64_t begin)
{
    if (session->profiling) {
        session->counters[kernel].calls++;
        session->counters[kernel].nanoseconds += (uint64_t)(rt_now() - begin);
    }
}

/* Arithmetic on sizes. What overflows becomes INT64_MAX, or -INT64_MAX below 0, and what is
 * computed from INT64_MAX stays INT64_MAX: too large a size never looks like one that fits. */
static inline int64_t rt_add(int64_t a, int64_t b)
{
    if (a == INT64_MAX || b == INT64_MAX)
        return INT64_MAX;
    if (b > 0)
        return a > INT64_MAX - b ? INT64_MAX : a + b;
    return a < -INT64_MAX - b ? -INT64_MAX : a + b;
}

static inline int64_t rt_mul(int64_t a, int64_t b)
{
    if (a == 0 || b == 0)
        return 0;
    int64_t most = INT64_MAX / (b > 0 ? b : -b);
    int negative = (a < 0) != (b < 0);
    if (a > most || a < -most)
        return negative ? -INT64_MAX : INT64_MAX;
    return a * b;
}

static inline int64_t rt_sub(int64_t a, int64_t b)
{
    return a == INT64_MAX ? a : b == INT64_MAX ? -INT64_MAX : rt_add(a, -b);
}

/* Quotient and remainder, rounded toward minus infinity; b is not 0. */
static inline int64_t rt_div(int64_t a, int64_t b)
{
    return a == INT64_MAX ? a : a / b - (a % b != 0 && (a % b < 0) != (b < 0));
}

static inline int64_t rt_mod(int64_t a, int64_t b)
{
    return a == INT64_MAX ? a : a - rt_div(a, b) * b;
}

static inline int64_t rt_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t rt_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

#endif /* TAPEOUT_RT_H */
