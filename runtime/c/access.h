/* access.h: the memory that buffers lie in, for steps that no kernel does: on a CPU, plain memory.
 * A target whose memory is another has a file of its own in place of this. */

#ifndef TAPEOUT_ACCESS_H
#define TAPEOUT_ACCESS_H

#include <string.h>

static inline void rt_copy(rt_session *session, void *to, const void *from, int64_t bytes)
{
    (void)session;
    if (bytes > 0)
        memcpy(to, from, (size_t)bytes);
}

static inline int64_t rt_get_i64(rt_session *session, const void *from, int64_t place)
{
    (void)session;
    return ((const int64_t *)from)[place];
}

static inline uint8_t rt_get_u8(rt_session *session, const void *from)
{
    (void)session;
    return *(const uint8_t *)from;
}

static inline void rt_put_i64(rt_session *session, void *to, int64_t place, int64_t value)
{
    (void)session;
    ((int64_t *)to)[place] = value;
}

static inline void rt_put_u8(rt_session *session, void *to, uint8_t value)
{
    (void)session;
    *(uint8_t *)to = value;
}

#endif /* TAPEOUT_ACCESS_H */
