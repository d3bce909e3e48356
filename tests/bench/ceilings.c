/* The machine's own ceilings: f32 fused multiply-adds, sums of products of bytes, streamed reads.
 *
 *     ceilings THREADS    ->    {"fma_gflops": total, "read_gb_s": total,
 *                                "dot_gops": total, "dot_with": "avx512vnni"}
 *     ceilings THREADS FILE    ->    {"read_gb_s": total}
 *
 * Without instructions for such sums, the last two are null. Of a file, a thread reads one part of
 * as many as there are threads, mapped as the runtime maps weights: what memory gives depends on
 * where the pages lie.
 *
 * A round lasts from the first thread's begin to the last one's end. The best of many rounds counts,
 * which are short, so that some of them fall between what else the machine does. Compile for the
 * machine at hand (-O3 -march=native): the widest vectors that it has are what is measured. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
enum { VECTOR_BYTES = 64, ACCUMULATORS = 24 };
#elif defined(__AVX__)
enum { VECTOR_BYTES = 32, ACCUMULATORS = 12 };
#else
enum { VECTOR_BYTES = 16, ACCUMULATORS = 12 };
#endif
/* Of a stream, vectors that are summed side by side. */
enum { WIDE = 8, STEP_BYTES = WIDE * VECTOR_BYTES };
enum { LANES = VECTOR_BYTES / sizeof(float), ROUNDS = 30, FILE_ROUNDS = 3, THREADS_MAX = 256 };
static const int64_t FMA_STEPS = 500000, STREAM_BYTES = (int64_t)256 << 20;

#if defined(__aarch64__)
#define IN_VECTOR(variable) "w"(variable)
#else
#define IN_VECTOR(variable) "v"(variable)
#endif

typedef float vector __attribute__((vector_size(VECTOR_BYTES)));

/* dots sums += bytes . bytes: every 32-bit lane takes four products of bytes. */
#if defined(__AVX512VNNI__)
#define DOT_WITH "avx512vnni"
typedef __m512i dots;
static dots dot(dots sums, dots a, dots b) { return _mm512_dpbusd_epi32(sums, a, b); }
#elif defined(__AVXVNNI__)
#define DOT_WITH "avxvnni"
typedef __m256i dots;
static dots dot(dots sums, dots a, dots b) { return _mm256_dpbusd_avx_epi32(sums, a, b); }
#elif defined(__AVX2__)
#define DOT_WITH "avx2"
typedef __m256i dots;
static dots dot(dots sums, dots a, dots b)
{
    __m256i pairs = _mm256_maddubs_epi16(a, b);
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#elif defined(__ARM_FEATURE_DOTPROD)
#define DOT_WITH "neon dotprod"
typedef int32x4_t dots;
static dots dot(dots sums, dots a, dots b)
{
    return vdotq_s32(sums, vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b));
}
#endif

struct job {
    pthread_barrier_t *start;
    const char *data;
    int64_t bytes;
    cpu_set_t own;
    struct span {
        double begin, end;
    } fma, dot, read;
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
            __asm__("" : "+" IN_VECTOR(a[i])); /* stays in a register, one FMA per step */
        }
    }
    float sum = 0;
#pragma GCC unroll 24
    for (int i = 0; i < ACCUMULATORS; i++)
        sum += a[i][0];
    return sum;
}

#ifdef DOT_WITH
enum { DOT_OPS = 2 * sizeof(dots) }; /* a product and a sum for every byte */
typedef int32_t numbers __attribute__((vector_size(sizeof(dots))));

static float sum_products(int byte)
{
    dots a[ACCUMULATORS], x, y;
    memset(&x, byte, sizeof x);
    memset(&y, byte, sizeof y);
#pragma GCC unroll 24
    for (int i = 0; i < ACCUMULATORS; i++)
        a[i] = x;
    for (int64_t step = 0; step < FMA_STEPS; step++) {
#pragma GCC unroll 24
        for (int i = 0; i < ACCUMULATORS; i++) {
            __asm__("" : "+" IN_VECTOR(x)); /* products of the same bytes must be made again */
            a[i] = dot(a[i], x, y);
            __asm__("" : "+" IN_VECTOR(a[i]));
        }
    }
    int sum = 0;
#pragma GCC unroll 24
    for (int i = 0; i < ACCUMULATORS; i++)
        sum += ((numbers)a[i])[0]; /* by memcpy, a[] would live in memory */
    return (float)sum;
}
#else
enum { DOT_OPS = 0 };
static float sum_products(int byte) { return (float)byte; }
#endif

static float read_stream(const char *data, int64_t bytes)
{
    vector a[WIDE];
#pragma GCC unroll 8
    for (int i = 0; i < WIDE; i++)
        a[i] = broadcast(0);
    for (int64_t at = 0; at < bytes; at += STEP_BYTES) {
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

/* Woken at a barrier on the other thread's CPU, it would wait there until that one has done. */
static void stay_there(const struct job *job)
{
    pthread_setaffinity_np(pthread_self(), sizeof job->own, &job->own);
}

static void *compute(void *argument)
{
    struct job *job = argument;
    stay_there(job);
    volatile float scale = 0.5f, shift = 1.0f;
    volatile int byte = 1;
    pthread_barrier_wait(job->start);
    job->fma.begin = now();
    job->sink = multiply_add(scale, shift);
    job->fma.end = now();
    pthread_barrier_wait(job->start);
    job->dot.begin = now();
    job->sink += sum_products(byte);
    job->dot.end = now();
    return NULL;
}

static void *stream(void *argument)
{
    struct job *job = argument;
    stay_there(job);
    pthread_barrier_wait(job->start);
    job->read.begin = now();
    job->sink = read_stream(job->data, job->bytes);
    job->read.end = now();
    return NULL;
}

/* Each job gets one of the CPUs that this process may use; more jobs than CPUs begin again. */
static void share_cpus(struct job *jobs, int count)
{
    cpu_set_t all;
    sched_getaffinity(0, sizeof all, &all);
    for (int i = 0, cpu = -1; i < count; i++) {
        do
            cpu = (cpu + 1) % CPU_SETSIZE;
        while (!CPU_ISSET(cpu, &all));
        CPU_ZERO(&jobs[i].own);
        CPU_SET(cpu, &jobs[i].own);
    }
}

static struct span joined(struct span a, struct span b)
{
    a.begin = b.begin < a.begin ? b.begin : a.begin;
    a.end = b.end > a.end ? b.end : a.end;
    return a;
}

static void run(void *(*work)(void *), struct job *jobs, int count)
{
    static pthread_t threads[THREADS_MAX];
    for (int i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, work, &jobs[i]);
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

/* The best of some rounds in which every job reads its bytes, in GB/s. */
static double read_gb_s(struct job *jobs, int count, int rounds)
{
    double best = 0;
    for (int round = 0; round < rounds; round++) {
        run(stream, jobs, count);
        struct span reading = jobs[0].read;
        double bytes = 0;
        for (int i = 0; i < count; i++) {
            reading = joined(reading, jobs[i].read);
            bytes += (double)jobs[i].bytes;
        }
        double gb_s = bytes / (reading.end - reading.begin) / 1e9;
        best = gb_s > best ? gb_s : best;
    }
    return best;
}

static int memory(struct job *jobs, int count)
{
    for (int i = 0; i < count; i++) {
        char *data = aligned_alloc((size_t)2 << 20, (size_t)STREAM_BYTES);
        if (!data)
            return 1;
        madvise(data, (size_t)STREAM_BYTES, MADV_HUGEPAGE);
        memset(data, 0, (size_t)STREAM_BYTES);
        jobs[i].data = data;
        jobs[i].bytes = STREAM_BYTES;
    }
    double fma = 0, dot = 0, read = 0;
    for (int round = 0; round < ROUNDS; round++) {
        run(compute, jobs, count);
        double steps = ACCUMULATORS * (double)FMA_STEPS * count;
        struct span computing = jobs[0].fma, summing = jobs[0].dot;
        for (int i = 1; i < count; i++) {
            computing = joined(computing, jobs[i].fma);
            summing = joined(summing, jobs[i].dot);
        }
        double gflops = 2.0 * LANES * steps / (computing.end - computing.begin) / 1e9;
        double gops = DOT_OPS * steps / (summing.end - summing.begin) / 1e9;
        double gb_s = read_gb_s(jobs, count, 1);
        fma = gflops > fma ? gflops : fma;
        dot = gops > dot ? gops : dot;
        read = gb_s > read ? gb_s : read;
    }
    printf("{\"fma_gflops\": %.1f, \"read_gb_s\": %.1f, ", fma, read);
#ifdef DOT_WITH
    printf("\"dot_gops\": %.1f, \"dot_with\": \"" DOT_WITH "\"}\n", dot);
#else
    printf("\"dot_gops\": null, \"dot_with\": null}\n");
#endif
    return 0;
}

static int mapped(const char *path, struct job *jobs, int count)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat facts;
    if (file < 0 || fstat(file, &facts)) {
        perror(path);
        return 1;
    }
    int64_t part = facts.st_size / count / STEP_BYTES * STEP_BYTES;
    if (part == 0) {
        fprintf(stderr, "%s: too short to read with %d threads\n", path, count);
        return 1;
    }
    char *data = mmap(NULL, (size_t)facts.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED) {
        perror(path);
        return 1;
    }
    madvise(data, (size_t)facts.st_size, MADV_HUGEPAGE);
    for (int i = 0; i < count; i++) {
        jobs[i].data = data + i * part;
        jobs[i].bytes = part;
    }
    run(stream, jobs, count); /* the first one waits for pages to be mapped */
    printf("{\"read_gb_s\": %.3f}\n", read_gb_s(jobs, count, FILE_ROUNDS));
    return 0;
}

int main(int count, char **arguments)
{
    int threads = count == 2 || count == 3 ? atoi(arguments[1]) : 0;
    if (threads < 1 || threads > THREADS_MAX) {
        fprintf(stderr, "usage: ceilings THREADS [FILE]\n");
        return 2;
    }
    static struct job jobs[THREADS_MAX];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++)
        jobs[i].start = &start;
    share_cpus(jobs, threads);
    return count == 3 ? mapped(arguments[2], jobs, threads) : memory(jobs, threads);
}
