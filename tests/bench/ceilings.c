/* The machine's own ceilings: f32 fused multiply-adds and streamed reads.
 *
 *     ceilings THREADS    ->    {"fma_gflops": total, "read_gb_s": total}
 *
 * A round lasts from the first thread's begin to the last one's end. The best of many rounds counts,
 * which are short, so that some of them fall between what else the machine does. Compile for the
 * machine at hand (-O3 -march=native): the widest vectors that it has are what is measured. */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#if defined(__AVX512F__)
enum { VECTOR_BYTES = 64, ACCUMULATORS = 24 };
#elif defined(__AVX__)
enum { VECTOR_BYTES = 32, ACCUMULATORS = 12 };
#else
enum { VECTOR_BYTES = 16, ACCUMULATORS = 12 };
#endif
enum { LANES = VECTOR_BYTES / sizeof(float), ROUNDS = 30, THREADS_MAX = 256 };
static const int64_t FMA_STEPS = 500000, STREAM_BYTES = (int64_t)256 << 20;

typedef float vector __attribute__((vector_size(VECTOR_BYTES)));

struct job {
    pthread_barrier_t *start;
    char *data;
    struct span {
        double begin, end;
    } fma, read;
    float sink; /* keeps the work from being optimised away */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static vector broadcast(float value)
{
    vector v;
    for (int i = 0; i < LANES; i++)
        v[i] = value;
    return v;
}

/* Independent chains, enough of them to hide the latency of an FMA on every port. */
static float multiply_add(float scale, float shift)
{
    vector a[ACCUMULATORS], x = broadcast(scale), y = broadcast(shift);
    /* All three loops over a[] must unroll, or it would live in memory. */
#pragma GCC unroll 24
    for (int i = 0; i < ACCUMULATORS; i++)
        a[i] = broadcast((float)i);
    for (int64_t step = 0; step < FMA_STEPS; step++) {
#pragma GCC unroll 24
        for (int i = 0; i < ACCUMULATORS; i++) {
            a[i] = a[i] * x + y;
            __asm__("" : "+v"(a[i])); /* stays in a register, one FMA per step */
        }
    }
    float sum = 0;
#pragma GCC unroll 24
    for (int i = 0; i < ACCUMULATORS; i++)
        sum += a[i][0];
    return sum;
}

static float read_stream(const char *data)
{
    enum { WIDE = 8 };
    vector a[WIDE];
#pragma GCC unroll 8
    for (int i = 0; i < WIDE; i++)
        a[i] = broadcast(0);
    for (int64_t at = 0; at < STREAM_BYTES; at += WIDE * VECTOR_BYTES) {
#pragma GCC unroll 8
        for (int i = 0; i < WIDE; i++)
            a[i] += *(const vector *)(data + at + i * VECTOR_BYTES);
    }
    float sum = 0;
#pragma GCC unroll 8
    for (int i = 0; i < WIDE; i++)
        sum += a[i][0];
    return sum;
}

static void *work(void *argument)
{
    struct job *job = argument;
    volatile float scale = 0.5f, shift = 1.0f;
    pthread_barrier_wait(job->start);
    job->fma.begin = now();
    job->sink = multiply_add(scale, shift);
    job->fma.end = now();
    pthread_barrier_wait(job->start);
    job->read.begin = now();
    job->sink += read_stream(job->data);
    job->read.end = now();
    return NULL;
}

static struct span joined(struct span a, struct span b)
{
    a.begin = b.begin < a.begin ? b.begin : a.begin;
    a.end = b.end > a.end ? b.end : a.end;
    return a;
}

int main(int count, char **arguments)
{
    int threads = count == 2 ? atoi(arguments[1]) : 0;
    if (threads < 1 || threads > THREADS_MAX) {
        fprintf(stderr, "usage: ceilings THREADS\n");
        return 2;
    }
    static struct job jobs[THREADS_MAX];
    pthread_t thread[THREADS_MAX];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++) {
        jobs[i].start = &start;
        jobs[i].data = aligned_alloc((size_t)2 << 20, (size_t)STREAM_BYTES);
        if (!jobs[i].data)
            return 1;
        madvise(jobs[i].data, (size_t)STREAM_BYTES, MADV_HUGEPAGE);
        memset(jobs[i].data, 0, (size_t)STREAM_BYTES);
    }
    double fma = 0, read = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < threads; i++)
            pthread_create(&thread[i], NULL, work, &jobs[i]);
        for (int i = 0; i < threads; i++)
            pthread_join(thread[i], NULL);
        double flop = 2.0 * LANES * ACCUMULATORS * (double)FMA_STEPS * threads;
        double bytes = (double)STREAM_BYTES * threads;
        struct span computing = jobs[0].fma, reading = jobs[0].read;
        for (int i = 1; i < threads; i++) {
            computing = joined(computing, jobs[i].fma);
            reading = joined(reading, jobs[i].read);
        }
        double gflops = flop / (computing.end - computing.begin) / 1e9;
        double gb_s = bytes / (reading.end - reading.begin) / 1e9;
        fma = gflops > fma ? gflops : fma;
        read = gb_s > read ? gb_s : read;
    }
    printf("{\"fma_gflops\": %.1f, \"read_gb_s\": %.1f}\n", fma, read);
    return 0;
}
