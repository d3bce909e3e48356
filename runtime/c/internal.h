/* internal.h: what the files of the runtime share. */

#ifndef TAPEOUT_INTERNAL_H
#define TAPEOUT_INTERNAL_H

#include "rt.h"

#define rt_reserve RT_NAME(rt_reserve)
#define rt_release RT_NAME(rt_release)
#define rt_memory_open RT_NAME(rt_memory_open)
#define rt_memory_close RT_NAME(rt_memory_close)
#define rt_enter RT_NAME(rt_enter)
#define rt_room RT_NAME(rt_room)
#define rt_leave RT_NAME(rt_leave)
#define rt_plan_new RT_NAME(rt_plan_new)
#define rt_plan_free RT_NAME(rt_plan_free)
#define rt_plan_place RT_NAME(rt_plan_place)
#define rt_plan_bytes RT_NAME(rt_plan_bytes)
#define rt_plan_offsets RT_NAME(rt_plan_offsets)
#define rt_arena_plan RT_NAME(rt_arena_plan)
#define rt_map_weights RT_NAME(rt_map_weights)
#define rt_unmap_weights RT_NAME(rt_unmap_weights)
#define rt_bind RT_NAME(rt_bind)
#define rt_shape_output RT_NAME(rt_shape_output)
#define rt_dtype_bytes RT_NAME(rt_dtype_bytes)
#define rt_dtype_name RT_NAME(rt_dtype_name)
#define rt_pool_close RT_NAME(rt_pool_close)
#define rt_cpus RT_NAME(rt_cpus)
#define rt_open_error RT_NAME(rt_open_error)

#define RT_ALIGN 64
#define RT_THREADS_MAX 256
#define RT_ERROR_BYTES 1024

#define RT_E_CPU 505
#define RT_E_WEIGHTS 506
#define RT_E_DTYPE 511
#define RT_E_RANK 512
#define RT_E_DIM 513
#define RT_E_OUTPUT 515

/* More than any machine maps: 2^47 bytes. */
#define RT_BYTES_MAX ((int64_t)1 << 47)

/* Memory that only grows. */
struct rt_block {
    char *data; /* 64-byte aligned; 2 MB aligned with huge pages advised when large */
    int64_t bytes;
    void *base;      /* what was mapped, or NULL when data came from the heap */
    int64_t mapped;
};

/* Make a block hold at least bytes; its content is lost when it grows. 0, or -1 without memory. */
int rt_reserve(rt_session *session, struct rt_block *block, int64_t bytes);
void rt_release(rt_session *session, struct rt_block *block);

/* Make ready what the memory of a session's steps takes, and point session->weights at the weights
 * in it; then let go of it. 0, or a code that was told to the opener. */
int rt_memory_open(rt_session *session);
void rt_memory_close(rt_session *session);

/* Around execute(): point session->in at what the inputs hold, session->out at room for an output
 * of so many bytes, and give the caller what is there at the end; `code` is that of execute().
 * rt_room is -1 without memory, the others 0 or a code. */
int rt_enter(rt_session *session, const tapeout_tensor *inputs);
int rt_room(rt_session *session, int32_t output, int64_t bytes);
int rt_leave(rt_session *session, int code);

/* Offsets for buffers with lives, greedy by size. Memory for n buffers is taken once. */
struct rt_plan *rt_plan_new(int32_t buffers);
void rt_plan_free(struct rt_plan *plan);
int64_t *rt_plan_bytes(struct rt_plan *plan);
const int64_t *rt_plan_offsets(const struct rt_plan *plan);
/* The arena's bytes, or -1 when a size is negative or the sum is out of bounds. */
int64_t rt_plan_place(struct rt_plan *plan, const rt_life *lives);

/* Point session->buf into the arena, for the sizes that are bound now. 0 or a code. */
int rt_arena_plan(rt_session *session);

int rt_map_weights(rt_session *session, const char *path, int64_t offset);
void rt_unmap_weights(rt_session *session);

/* Check the inputs and bind the dims; clears session->planned when they changed. 0 or a code. */
int rt_bind(rt_session *session, const tapeout_tensor *inputs);

void rt_shape_output(const rt_session *session, int32_t output, tapeout_tensor *tensor);

int64_t rt_dtype_bytes(int32_t dtype); /* 0 when unknown */
const char *rt_dtype_name(int32_t dtype);

void rt_pool_close(rt_session *session);
int rt_cpus(void);

/* This thread's message of the last open that failed. */
char *rt_open_error(void);

#endif /* TAPEOUT_INTERNAL_H */
