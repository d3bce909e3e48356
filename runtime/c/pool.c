/* pool.c: a static pool of threads, started by the first parallel call.
 *
 * A job is published by a new epoch; workers spin for a short while, then sleep. The last worker
 * to finish wakes the caller when that sleeps. Sleeping and waking meet like Dekker's two flags:
 * each side writes its own flag, then reads the other's, all sequentially consistent.
 *
 * Every share is claimed before it is done: by its worker, or, when that is still not there once
 * the caller has done its own share, by the caller. So a worker that gets no CPU, or has to be
 * woken for little, costs nothing but its help. A share is one range of tasks and one thread
 * number, whoever does it: results do not depend on that. */

#define _GNU_SOURCE
#include "internal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
#if defined(__linux__)
#include <sched.h>
#endif

/* Longer than the gap between two kernels, short enough not to be seen in a load average. */
#define SPIN_NANOSECONDS 30000

struct worker {
    _Alignas(64) atomic_uint claimed; /* the last epoch whose share of this thread is taken */
    struct rt_pool *pool;
    pthread_t handle;
    int thread;
};

struct rt_pool {
    /* The job; written before its epoch, read by who has claimed a share of it. */
    rt_task *task;
    void *args;
    int64_t tasks;
    int threads; /* the caller included */
    int spin;    /* worth it only while every thread has a CPU */

    /* On cache lines of their own: workers spin on one and write the other. */
    _Alignas(64) atomic_uint epoch;
    _Alignas(64) atomic_int pending; /* shares that are not done, the caller's own not counted */
    _Alignas(64) atomic_int sleepers;
    atomic_int caller_sleeps;
    atomic_int stop;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_cond_t done;
    struct worker workers[];
};

int rt_cpus(void)
{
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set);
#endif
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static int64_t split(int64_t tasks, int thread, int threads)
{
    /* tasks * thread / threads without overflow */
    return tasks / threads * thread + tasks % threads * thread / threads;
}

static void do_share(const struct rt_pool *pool, int thread)
{
    int64_t begin = split(pool->tasks, thread, pool->threads);
    int64_t end = split(pool->tasks, thread + 1, pool->threads);
    if (begin < end)
        pool->task(pool->args, begin, end, thread);
}

/* Whether the share of this worker in the job of this epoch is still to be had, and now ours. */
static int claim(struct worker *worker, unsigned epoch)
{
    unsigned before = epoch - 1;
    return atomic_load_explicit(&worker->claimed, memory_order_relaxed) == before &&
           atomic_compare_exchange_strong(&worker->claimed, &before, epoch);
}

static int spin_for_epoch(struct rt_pool *pool, unsigned seen)
{
    if (!pool->spin)
        return 0;
    int64_t until = rt_now() + SPIN_NANOSECONDS;
    do {
        for (int i = 0; i < 32; i++) {
            if (atomic_load_explicit(&pool->epoch, memory_order_acquire) != seen)
                return 1;
            relax();
        }
    } while (rt_now() < until);
    return 0;
}

static void sleep_for_epoch(struct rt_pool *pool, unsigned seen)
{
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(&pool->epoch) == seen)
        pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void finish_share(struct rt_pool *pool)
{
    if (atomic_fetch_sub(&pool->pending, 1) == 1 && atomic_load(&pool->caller_sleeps)) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_signal(&pool->done);
        pthread_mutex_unlock(&pool->lock);
    }
}

static void *work(void *opaque)
{
    struct worker *self = opaque;
    struct rt_pool *pool = self->pool;
    for (unsigned seen = 0;;) {
        if (!spin_for_epoch(pool, seen))
            sleep_for_epoch(pool, seen);
        seen = atomic_load(&pool->epoch);
        if (atomic_load(&pool->stop))
            return NULL;
        if (!claim(self, seen))
            continue; /* woken too late */
        do_share(pool, self->thread);
        finish_share(pool);
    }
}

/* Do the shares of workers that have not come. */
static void do_unclaimed(struct rt_pool *pool)
{
    unsigned epoch = atomic_load_explicit(&pool->epoch, memory_order_relaxed);
    for (int thread = 1; thread < pool->threads; thread++)
        if (claim(&pool->workers[thread], epoch)) {
            do_share(pool, thread);
            atomic_fetch_sub(&pool->pending, 1);
        }
}

static void next_epoch(struct rt_pool *pool)
{
    atomic_fetch_add(&pool->epoch, 1);
    if (atomic_load(&pool->sleepers) > 0) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->lock);
    }
}

static int spin_for_done(struct rt_pool *pool)
{
    int64_t until = pool->spin ? rt_now() + SPIN_NANOSECONDS : 0;
    do {
        for (int i = 0; i < 32; i++) {
            if (atomic_load_explicit(&pool->pending, memory_order_acquire) == 0)
                return 1;
            relax();
        }
    } while (pool->spin && rt_now() < until);
    return 0;
}

static void sleep_for_done(struct rt_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->caller_sleeps, 1);
    while (atomic_load(&pool->pending) != 0)
        pthread_cond_wait(&pool->done, &pool->lock);
    atomic_store(&pool->caller_sleeps, 0);
    pthread_mutex_unlock(&pool->lock);
}

/* Threads that the system does not give are done without: the split shrinks with them. */
static struct rt_pool *start_pool(int threads)
{
    size_t bytes = sizeof(struct rt_pool) + (size_t)threads * sizeof(struct worker);
    struct rt_pool *pool = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!pool)
        return NULL;
    atomic_init(&pool->epoch, 0);
    atomic_init(&pool->pending, 0);
    atomic_init(&pool->sleepers, 0);
    atomic_init(&pool->caller_sleeps, 0);
    atomic_init(&pool->stop, 0);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->spin = threads <= rt_cpus();
    int started = 1;
    for (; started < threads; started++) {
        struct worker *worker = &pool->workers[started];
        atomic_init(&worker->claimed, 0);
        worker->pool = pool;
        worker->thread = started;
        if (pthread_create(&worker->handle, NULL, work, worker))
            break;
    }
    pool->threads = started;
    return pool;
}

void rt_parallel_wake(rt_session *session, rt_task *task, void *args, int64_t tasks)
{
    struct rt_pool *pool = session->pool;
    if (!pool) {
        pool = session->pool = start_pool(session->threads);
        session->threads = pool ? pool->threads : 1;
    }
    if (!pool || pool->threads == 1) {
        task(args, 0, tasks, 0);
        return;
    }
    pool->task = task;
    pool->args = args;
    pool->tasks = tasks;
    atomic_store_explicit(&pool->pending, pool->threads - 1, memory_order_relaxed);
    next_epoch(pool);
    do_share(pool, 0);
    if (atomic_load_explicit(&pool->pending, memory_order_acquire) > 0)
        do_unclaimed(pool);
    if (!spin_for_done(pool))
        sleep_for_done(pool);
}

void rt_pool_close(rt_session *session)
{
    struct rt_pool *pool = session->pool;
    if (!pool)
        return;
    atomic_store(&pool->stop, 1);
    next_epoch(pool);
    for (int i = 1; i < pool->threads; i++)
        pthread_join(pool->workers[i].handle, NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
    session->pool = NULL;
}
