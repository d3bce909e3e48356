/* Counts what scale.c and the runtime allocate per call once they are warm. Linked with --wrap for
 * each function below. Prints allocations while warming up, then after. */
#include "tapeout.h"

#include <stdio.h>
#include <stddef.h>

static int allocations;

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_aligned_alloc(size_t align, size_t bytes);
void *__real_mmap(void *at, size_t bytes, int rights, int flags, int file, long offset);

void *__wrap_malloc(size_t bytes)
{
    allocations++;
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    allocations++;
    return __real_calloc(count, bytes);
}

void *__wrap_aligned_alloc(size_t align, size_t bytes)
{
    allocations++;
    return __real_aligned_alloc(align, bytes);
}

void *__wrap_mmap(void *at, size_t bytes, int rights, int flags, int file, long offset)
{
    allocations++;
    return __real_mmap(at, bytes, rights, flags, file, offset);
}

static int run(tapeout_session *session, float *data, int64_t B, int64_t S)
{
    tapeout_tensor inputs[2] = {{data, {B, S, 4}, 3, TAPEOUT_F32},
                                {data, {B, S, 4}, 3, TAPEOUT_F32}};
    tapeout_tensor outputs[2] = {{0}, {0}};
    return tapeout_run(session, inputs, outputs);
}

int main(void)
{
    static float data[32 * 4096 * 4];
    tapeout_session *session;
    if (tapeout_open(NULL, 0, 2, &session) || run(session, data, 32, 4096))
        return 1;
    printf("%d\n", allocations);
    allocations = 0;
    for (int64_t i = 0; i < 100; i++)
        if (run(session, data, 1 + i % 6, 1 + i * 40))
            return 1;
    printf("%d\n", allocations);
    tapeout_close(session);
    return 0;
}
