/* session.c: open, run, close. */

#define _GNU_SOURCE
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

const tapeout_info *TAPEOUT_NAME(describe)(void)
{
    return &RT_NAME(model).info;
}

int64_t rt_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Cut the next n bytes off a block, 16-byte aligned; only counts when the block is NULL. */
static void *carve(char *block, size_t *used, size_t bytes)
{
    char *here = block ? block + *used : NULL;
    *used += (bytes + 15) / 16 * 16;
    return here;
}

/* The session and all its tables are one piece of memory. */
static size_t lay_out(const rt_model *model, char *block)
{
    size_t used = 0;
    rt_session unused, *session = carve(block, &used, sizeof *session);
    session = session ? session : &unused;
    size_t dims = (size_t)(model->info.symbols + model->derived + model->late_dims);
    session->in = carve(block, &used, (size_t)model->info.inputs * sizeof *session->in);
    session->out = carve(block, &used, (size_t)model->info.outputs * sizeof *session->out);
    session->dims = carve(block, &used, dims * sizeof *session->dims);
    session->buf = carve(block, &used, (size_t)model->buffers * sizeof *session->buf);
    session->late = carve(block, &used, (size_t)model->late * sizeof *session->late);
    session->late_blocks = carve(block, &used, (size_t)model->late * sizeof(struct rt_block));
    session->input_blocks =
        carve(block, &used, (size_t)model->info.inputs * sizeof(struct rt_block));
    session->output_blocks =
        carve(block, &used, (size_t)model->info.outputs * sizeof(struct rt_block));
    session->arena = carve(block, &used, sizeof(struct rt_block));
    session->scratch_block = carve(block, &used, sizeof(struct rt_block));
    session->counters =
        carve(block, &used, (size_t)model->info.kernels * sizeof *session->counters);
    session->error = carve(block, &used, RT_ERROR_BYTES);
    return used;
}

static rt_session *new_session(const rt_model *model, int threads)
{
    char *block = calloc(1, lay_out(model, NULL));
    rt_session *session = (rt_session *)block;
    if (!session)
        return NULL;
    lay_out(model, block);
    session->model = model;
    session->threads = threads > 0 ? threads : rt_cpus();
    session->threads = session->threads < RT_THREADS_MAX ? session->threads : RT_THREADS_MAX;
    session->weights_bytes = model->info.weights_bytes;
    return session;
}

static int reserve_fixed_memory(rt_session *session)
{
    const rt_model *model = session->model;
    session->scratch_stride = (model->scratch_bytes + RT_ALIGN - 1) / RT_ALIGN * RT_ALIGN;
    if (rt_reserve(session, session->scratch_block, rt_mul(session->scratch_stride, session->threads)))
        return -1;
    session->scratch = session->scratch_block->data;
    if (!model->sizes)
        return rt_arena_plan(session);
    session->plan = rt_plan_new(model->buffers);
    return session->plan ? 0 : -1;
}

static int open_session(const char *path, int64_t offset, const void *weights, int threads,
                        tapeout_session **out)
{
    const rt_model *model = &RT_NAME(model);
    *out = NULL;
    rt_session *session = new_session(model, threads);
    if (!session)
        return rt_fail(NULL, RT_E_MEMORY, "there is no memory for a session");
    int code = 0;
    if (weights)
        session->mapped = weights;
    else
        code = rt_map_weights(session, path, offset);
    if (!code)
        code = rt_memory_open(session);
    if (!code && reserve_fixed_memory(session))
        code = rt_fail(NULL, RT_E_MEMORY,
                       "there is no memory for the model's buffers\n  bytes: %lld",
                       (long long)model->arena_bytes);
    if (code)
        TAPEOUT_NAME(close)(session);
    else
        *out = session;
    return code;
}

int TAPEOUT_NAME(open)(const char *weights_path, int64_t weights_offset, int threads,
                       tapeout_session **out)
{
    return open_session(weights_path, weights_offset, NULL, threads, out);
}

int TAPEOUT_NAME(open_memory)(const void *weights, int64_t bytes, int threads,
                              tapeout_session **out)
{
    int64_t need = RT_NAME(model).info.weights_bytes;
    *out = NULL;
    if (!weights || bytes < need)
        return rt_fail(NULL, RT_E_WEIGHTS,
                       "the weights in memory are too short\n  expected: %lld\n  got: %lld",
                       (long long)need, (long long)bytes);
    return open_session(NULL, 0, weights, threads, out);
}

void TAPEOUT_NAME(close)(tapeout_session *session)
{
    if (!session)
        return;
    rt_pool_close(session);
    rt_unmap_weights(session);
    for (int32_t i = 0; i < session->model->info.inputs; i++)
        rt_release(session, &session->input_blocks[i]);
    for (int32_t i = 0; i < session->model->late; i++)
        rt_release(session, &session->late_blocks[i]);
    for (int32_t i = 0; i < session->model->info.outputs; i++)
        rt_release(session, &session->output_blocks[i]);
    rt_release(session, session->arena);
    rt_release(session, session->scratch_block);
    rt_memory_close(session);
    rt_plan_free(session->plan);
    free(session);
}

int TAPEOUT_NAME(run)(tapeout_session *session, const tapeout_tensor *inputs,
                      tapeout_tensor *outputs)
{
    const rt_model *model = session->model;
    int code = rt_bind(session, inputs);
    if (!code && !session->planned)
        code = rt_arena_plan(session);
    if (code)
        return code;
    int32_t known = model->info.symbols + model->derived;
    for (int32_t i = 0; i < model->late_dims; i++)
        session->dims[known + i] = -1;
    session->outputs = outputs;
    for (int32_t i = 0; i < model->info.outputs; i++) {
        code = rt_output(session, i);
        if (code)
            return code;
    }
    code = rt_enter(session, inputs);
    return code ? code : rt_leave(session, model->execute(session));
}

int TAPEOUT_NAME(output_shapes)(tapeout_session *session, const tapeout_tensor *inputs,
                                tapeout_tensor *outputs)
{
    const rt_model *model = session->model;
    int code = rt_bind(session, inputs);
    if (code)
        return code;
    int32_t known = model->info.symbols + model->derived;
    for (int32_t i = 0; i < model->late_dims; i++)
        session->dims[known + i] = -1;
    for (int32_t i = 0; i < model->info.outputs; i++)
        rt_shape_output(session, i, &outputs[i]);
    return 0;
}

/* Half as much again, so that a slowly growing size does not allocate at every call. */
static int64_t grown(const struct rt_block *block, int64_t bytes)
{
    int64_t half_more = block->bytes + block->bytes / 2;
    return bytes > block->bytes && bytes < half_more ? half_more : bytes;
}

static int refuse_late(rt_session *session, int64_t bytes)
{
    return rt_fail(session, RT_E_MEMORY,
                   "there is no memory for a result whose size depends on data\n  bytes: %lld",
                   (long long)bytes);
}

int rt_late(rt_session *session, int32_t slot, int64_t bytes)
{
    struct rt_block *block = &session->late_blocks[slot];
    if (bytes < 0 || rt_reserve(session, block, grown(block, bytes)))
        return refuse_late(session, bytes);
    session->late[slot] = block->data;
    return 0;
}

int rt_late_keep(rt_session *session, int32_t slot, int64_t bytes, int64_t keep)
{
    struct rt_block *block = &session->late_blocks[slot], moved = {0};
    if (RT_LIKELY(block->data && bytes <= block->bytes))
        return 0;
    if (rt_reserve(session, &moved, grown(block, bytes)))
        return refuse_late(session, bytes);
    rt_copy(session, moved.data, block->data, keep);
    rt_release(session, block);
    *block = moved;
    session->late[slot] = block->data;
    return 0;
}

void rt_late_swap(rt_session *session, int32_t a, int32_t b)
{
    struct rt_block block = session->late_blocks[a];
    session->late_blocks[a] = session->late_blocks[b];
    session->late_blocks[b] = block;
    session->late[a] = session->late_blocks[a].data;
    session->late[b] = session->late_blocks[b].data;
}

void TAPEOUT_NAME(profile)(tapeout_session *session, int enable)
{
    size_t bytes = (size_t)session->model->info.kernels * sizeof *session->counters;
    if (enable)
        memset(session->counters, 0, bytes);
    session->profiling = enable;
}

const tapeout_counter *TAPEOUT_NAME(counters)(const tapeout_session *session)
{
    return session->counters;
}

int64_t TAPEOUT_NAME(memory)(const tapeout_session *session)
{
    int64_t bytes = session->arena->bytes + session->scratch_block->bytes;
    for (int32_t i = 0; i < session->model->late; i++)
        bytes += session->late_blocks[i].bytes;
    for (int32_t i = 0; i < session->model->info.inputs; i++)
        bytes += session->input_blocks[i].bytes;
    for (int32_t i = 0; i < session->model->info.outputs; i++)
        bytes += session->output_blocks[i].bytes;
    return bytes;
}
