/* error.c: messages, and the names that they use. */

#define _GNU_SOURCE
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>

char *rt_open_error(void)
{
    static _Thread_local char text[RT_ERROR_BYTES];
    return text;
}

int rt_fail(rt_session *session, int code, const char *format, ...)
{
    char *text = session ? session->error : rt_open_error();
    int head = snprintf(text, RT_ERROR_BYTES, "error[E%04d]: ", code);
    va_list args;
    va_start(args, format);
    vsnprintf(text + head, RT_ERROR_BYTES - (size_t)head, format, args);
    va_end(args);
    return code;
}

const char *TAPEOUT_NAME(error)(const tapeout_session *session)
{
    return session ? session->error : rt_open_error();
}

/* Bytes and name of each tapeout_dtype, in its order. */
static const struct {
    int64_t bytes;
    const char *name;
} DTYPES[] = {
    {0, "?"},          {4, "f32"},       {8, "f64"},        {2, "f16"},    {2, "bf16"},
    {1, "i8"},         {2, "i16"},       {4, "i32"},        {8, "i64"},    {1, "u8"},
    {2, "u16"},        {4, "u32"},       {8, "u64"},        {1, "bool"},   {1, "f8e4m3fn"},
    {1, "f8e4m3fnuz"}, {1, "f8e5m2"},    {1, "f8e5m2fnuz"}, {1, "f8e8m0"},
    {1, "i4"},         {1, "u4"},        {1, "i2"},         {1, "u2"},     {1, "f4e2m1"},
};

static int known(int32_t dtype)
{
    return dtype > 0 && dtype < (int32_t)(sizeof DTYPES / sizeof *DTYPES);
}

int64_t rt_dtype_bytes(int32_t dtype)
{
    return DTYPES[known(dtype) ? dtype : 0].bytes;
}

const char *rt_dtype_name(int32_t dtype)
{
    return DTYPES[known(dtype) ? dtype : 0].name;
}
