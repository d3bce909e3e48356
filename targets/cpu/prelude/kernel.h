/* kernel.h: what every kernel includes. */
#ifndef KERNEL_H
#define KERNEL_H

#include "rt.h"
#include "vec.h"
#include "vmath.h"
#include "vint.h"
#include "cvt.h"
#include "half.h"
#include "small.h"
#include "libm.h"
#include "support.h"

typedef struct to_call {
  rt_session *session;
  void *const *buffers;
} to_call;

/* Operations below which waking other threads costs more than it saves. */
#define TO_LEAST_WORK 30000

/* Run all tasks, on all threads when the work is worth it. */
static inline void to_run(rt_session *s, rt_task *task, void *call, i64 tasks, i64 work) {
  if (work < TO_LEAST_WORK) {
    if (tasks > 0) task(call, 0, tasks, 0);
  } else {
    rt_parallel(s, task, call, tasks);
  }
}

#endif
