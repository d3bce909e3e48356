/* memory.c: memory that grows only, and what a caller's buffers are to the steps: on a CPU, what
 * they read and write. A target whose memory is another has a file of its own in place of this. */

#define _GNU_SOURCE
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE ((int64_t)2 << 20)

static int64_t round_up(int64_t bytes, int64_t unit)
{
    return (bytes + unit - 1) / unit * unit;
}

void rt_release(rt_session *session, struct rt_block *block)
{
    (void)session;
    if (block->base)
        munmap(block->base, (size_t)block->mapped);
    else
        free(block->data);
    memset(block, 0, sizeof *block);
}

/* Huge pages are worth 1.7x in streaming kernels, so large blocks start on a 2 MB boundary. */
static int map_huge(struct rt_block *block, int64_t bytes)
{
    int64_t mapped = round_up(bytes, HUGE) + HUGE;
    void *base =
        mmap(NULL, (size_t)mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return -1;
    block->base = base;
    block->mapped = mapped;
    block->data = (char *)(uintptr_t)round_up((int64_t)(uintptr_t)base, HUGE);
    block->bytes = round_up(bytes, HUGE);
#ifdef MADV_HUGEPAGE
    (void)madvise(block->data, (size_t)block->bytes, MADV_HUGEPAGE); /* advice: may be refused */
#endif
    return 0;
}

int rt_reserve(rt_session *session, struct rt_block *block, int64_t bytes)
{
    if (RT_LIKELY(block->data && bytes <= block->bytes))
        return 0;
    if (bytes < 0 || bytes > RT_BYTES_MAX)
        return -1;
    rt_release(session, block);
    if (bytes >= HUGE)
        return map_huge(block, bytes);
    int64_t rounded = round_up(bytes ? bytes : 1, RT_ALIGN);
    block->data = aligned_alloc(RT_ALIGN, (size_t)rounded);
    block->bytes = block->data ? rounded : 0;
    return block->data ? 0 : -1;
}

int rt_memory_open(rt_session *session)
{
    session->weights = session->mapped;
    return 0;
}

void rt_memory_close(rt_session *session)
{
    (void)session;
}

int rt_enter(rt_session *session, const tapeout_tensor *inputs)
{
    for (int32_t i = 0; i < session->model->info.inputs; i++)
        session->in[i] = inputs[i].data;
    return 0;
}

int rt_room(rt_session *session, int32_t output, int64_t bytes)
{
    tapeout_tensor *tensor = &session->outputs[output];
    struct rt_block *block = &session->output_blocks[output];
    if (!tensor->data) {
        if (rt_reserve(session, block, bytes))
            return -1;
        tensor->data = block->data;
    }
    session->out[output] = tensor->data;
    return 0;
}

int rt_leave(rt_session *session, int code)
{
    (void)session;
    return code;
}
