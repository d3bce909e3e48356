/* access.h: the device's memory, for steps that no kernel does. A value that is read is waited for;
 * what fails shows when the run ends. In place of the file of this name for CPUs. */

#ifndef TAPEOUT_ACCESS_H
#define TAPEOUT_ACCESS_H

#define rt_copy RT_NAME(rt_copy)
#define rt_get_i64 RT_NAME(rt_get_i64)
#define rt_get_u8 RT_NAME(rt_get_u8)
#define rt_put_i64 RT_NAME(rt_put_i64)
#define rt_put_u8 RT_NAME(rt_put_u8)

void rt_copy(rt_session *session, void *to, const void *from, int64_t bytes);
int64_t rt_get_i64(rt_session *session, const void *from, int64_t place);
uint8_t rt_get_u8(rt_session *session, const void *from);
void rt_put_i64(rt_session *session, void *to, int64_t place, int64_t value);
void rt_put_u8(rt_session *session, void *to, uint8_t value);

#endif /* TAPEOUT_ACCESS_H */
