/* What a program does to memory: runs a model on zeros and prints one line of JSON.
 *
 *     predictable WEIGHTS THREADS RUNS [SIZE]...     one SIZE for every symbolic dimension
 *
 * -> {"allocations": calls of the allocator during RUNS, after one run that is not counted,
 *     "peak_bytes": highest resident size, less what the program and its inputs held before the
 *                   model was opened, "working_bytes", "weights_bytes",
 *     "open_allocations": those while it was opened, which shows that the counter counts} */

#define _GNU_SOURCE
#include "tapeout.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PORTS_MAX = 16, ELEMENT_BYTES_MAX = 8 };

/* Definitions in the program take the place of the C library's, for the model's code too. */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
static atomic_long allocations;

void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    allocations++;
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    allocations++;
    return __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    allocations++;
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    allocations++;
    *out = __libc_memalign(alignment, size);
    return *out ? 0 : 12;
}

static int64_t peak_bytes(void)
{
    char line[256];
    long kilobytes = -1;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "VmHWM: %ld", &kilobytes) == 1)
            break;
    if (status)
        fclose(status);
    return (int64_t)kilobytes * 1024;
}

/* Zeros in the shape of a port; every symbolic axis has the size given for its symbol. */
static void fill(tapeout_tensor *tensor, const tapeout_port *port, const int64_t *sizes)
{
    int64_t bytes = ELEMENT_BYTES_MAX;
    tensor->rank = port->rank;
    tensor->dtype = port->dtype;
    for (int i = 0; i < port->rank; i++) {
        const tapeout_axis *axis = &port->axes[i];
        tensor->dims[i] = axis->size >= 0 ? axis->size : sizes[axis->slot];
        bytes *= tensor->dims[i];
    }
    tensor->data = malloc((size_t)bytes);
    if (tensor->data)
        memset(tensor->data, 0, (size_t)bytes);
}

int main(int count, char **arguments)
{
    const tapeout_info *info = tapeout_describe();
    if (count != 4 + info->symbols || info->inputs > PORTS_MAX || info->outputs > PORTS_MAX) {
        fprintf(stderr, "usage: predictable WEIGHTS THREADS RUNS [SIZE]...\n");
        return 2;
    }
    int64_t sizes[PORTS_MAX] = {0};
    for (int i = 0; i < info->symbols && i < PORTS_MAX; i++)
        sizes[i] = atoll(arguments[4 + i]);
    tapeout_tensor inputs[PORTS_MAX] = {0}, outputs[PORTS_MAX] = {0};
    for (int i = 0; i < info->inputs; i++)
        fill(&inputs[i], &info->input[i], sizes);
    int64_t before = peak_bytes();

    tapeout_session *session;
    long before_open = allocations;
    if (tapeout_open(arguments[1], 0, atoi(arguments[2]), &session)) {
        fprintf(stderr, "%s\n", tapeout_error(NULL));
        return 1;
    }
    long counted = 0, opening = allocations - before_open;
    for (int run = 0; run <= atoi(arguments[3]); run++) {
        for (int i = 0; i < info->outputs; i++)
            outputs[i].data = NULL; /* stays in the session's memory, which it reuses */
        long first = allocations;
        if (tapeout_run(session, inputs, outputs)) {
            fprintf(stderr, "%s\n", tapeout_error(session));
            return 1;
        }
        counted += run ? allocations - first : 0;
    }
    printf("{\"allocations\": %ld, \"open_allocations\": %ld, \"peak_bytes\": %" PRId64 ", \"working_bytes\": %" PRId64
           ", \"weights_bytes\": %" PRId64 "}\n",
           counted, opening, peak_bytes() - before, tapeout_memory(session), info->weights_bytes);
    tapeout_close(session);
    return 0;
}
