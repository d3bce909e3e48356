/* arena.c: the offsets of buffers in the arena. */

#define _GNU_SOURCE
#include "internal.h"

#include <stdlib.h>
#include <string.h>

struct rt_plan {
    int32_t buffers;
    int64_t *bytes;
    int64_t *offsets;
    int32_t *by_size;   /* buffers, largest first */
    int32_t *by_offset; /* buffers that have their place, lowest first */
};

struct rt_plan *rt_plan_new(int32_t buffers)
{
    size_t n = (size_t)buffers;
    size_t each = 2 * sizeof(int64_t) + 2 * sizeof(int32_t);
    struct rt_plan *plan = calloc(1, sizeof *plan + n * each);
    if (!plan)
        return NULL;
    plan->buffers = buffers;
    plan->bytes = (int64_t *)(plan + 1);
    plan->offsets = plan->bytes + n;
    plan->by_size = (int32_t *)(plan->offsets + n);
    plan->by_offset = plan->by_size + n;
    for (int32_t i = 0; i < buffers; i++)
        plan->by_size[i] = i;
    return plan;
}

void rt_plan_free(struct rt_plan *plan)
{
    free(plan);
}

int64_t *rt_plan_bytes(struct rt_plan *plan)
{
    return plan->bytes;
}

const int64_t *rt_plan_offsets(const struct rt_plan *plan)
{
    return plan->offsets;
}

/* Insertion sort: allocates nothing, and sizes keep their order from one plan to the next, so the
 * last order is nearly right. Ties go by number, to be the same on every machine. */
static void sort_by_size(struct rt_plan *plan)
{
    for (int32_t i = 0; i < plan->buffers; i++) {
        int32_t buffer = plan->by_size[i], j = i;
        for (; j > 0; j--) {
            int32_t before = plan->by_size[j - 1];
            if (plan->bytes[before] > plan->bytes[buffer] ||
                (plan->bytes[before] == plan->bytes[buffer] && before < buffer))
                break;
            plan->by_size[j] = before;
        }
        plan->by_size[j] = buffer;
    }
}

static int overlap(rt_life a, rt_life b)
{
    return a.first <= b.last && b.first <= a.last;
}

/* The tightest gap between the placed buffers that live at the same time, else the end. */
static int64_t find_gap(const struct rt_plan *plan, const rt_life *lives, int32_t placed,
                        int32_t buffer)
{
    int64_t end = 0, best = -1, slack = INT64_MAX;
    for (int32_t i = 0; i < placed; i++) {
        int32_t other = plan->by_offset[i];
        if (!overlap(lives[buffer], lives[other]))
            continue;
        int64_t room = plan->offsets[other] - end - plan->bytes[buffer];
        if (room >= 0 && room < slack) {
            slack = room;
            best = end;
        }
        int64_t top = plan->offsets[other] + plan->bytes[other];
        end = top > end ? top : end;
    }
    return best >= 0 ? best : end;
}

static void insert_by_offset(struct rt_plan *plan, int32_t placed, int32_t buffer)
{
    int32_t i = placed;
    for (; i > 0 && plan->offsets[plan->by_offset[i - 1]] > plan->offsets[buffer]; i--)
        plan->by_offset[i] = plan->by_offset[i - 1];
    plan->by_offset[i] = buffer;
}

/* Round sizes to the alignment; -1 when the sum, which bounds every offset, is out of bounds. */
static int check_sizes(struct rt_plan *plan)
{
    int64_t sum = 0;
    for (int32_t i = 0; i < plan->buffers; i++) {
        if (plan->bytes[i] < 0 || plan->bytes[i] > RT_BYTES_MAX)
            return -1;
        plan->bytes[i] = (plan->bytes[i] + RT_ALIGN - 1) / RT_ALIGN * RT_ALIGN;
        sum = rt_add(sum, plan->bytes[i]);
    }
    return sum > RT_BYTES_MAX * 1024 ? -1 : 0;
}

int64_t rt_plan_place(struct rt_plan *plan, const rt_life *lives)
{
    if (check_sizes(plan))
        return -1;
    sort_by_size(plan);
    int64_t total = 0;
    for (int32_t placed = 0; placed < plan->buffers; placed++) {
        int32_t buffer = plan->by_size[placed];
        plan->offsets[buffer] = find_gap(plan, lives, placed, buffer);
        insert_by_offset(plan, placed, buffer);
        int64_t top = plan->offsets[buffer] + plan->bytes[buffer];
        total = top > total ? top : total;
    }
    return total > RT_BYTES_MAX ? -1 : total;
}

int rt_arena_plan(rt_session *session)
{
    const rt_model *model = session->model;
    const int64_t *offsets = model->offsets;
    int64_t total = model->arena_bytes;
    if (model->sizes) {
        model->sizes(session, rt_plan_bytes(session->plan));
        total = rt_plan_place(session->plan, model->lives);
        offsets = rt_plan_offsets(session->plan);
    }
    if (total < 0 || rt_reserve(session, session->arena, total))
        return rt_fail(session, RT_E_MEMORY,
                       "there is no memory for the model's buffers at this input size\n"
                       "  bytes: %lld\n  fix: use smaller inputs, or a machine with more memory",
                       (long long)total);
    for (int32_t i = 0; i < model->buffers; i++)
        session->buf[i] = session->arena->data + offsets[i];
    session->planned = 1;
    return 0;
}
