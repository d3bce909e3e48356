/* memory.c: the device's memory, and the way of what callers have to it and back. In place of the
 * file of this name for CPUs. */

#define _GNU_SOURCE
#include "device.h"

#include <stdlib.h>
#include <string.h>

static cu_pointer pointer_to(const void *data)
{
    return (cu_pointer)(uintptr_t)data;
}

void rt_release(rt_session *session, struct rt_block *block)
{
    struct rt_device *device = session->device;
    if (block->data && rt_device_enter(device) == CU_SUCCESS)
        device->driver->free(pointer_to(block->data));
    memset(block, 0, sizeof *block);
}

int rt_reserve(rt_session *session, struct rt_block *block, int64_t bytes)
{
    struct rt_device *device = session->device;
    if (bytes >= 0 && bytes <= block->bytes)
        return 0;
    rt_release(session, block);
    if (bytes < 0 || bytes > RT_BYTES_MAX || rt_device_enter(device) != CU_SUCCESS)
        return -1;
    /* The driver's pieces are multiples of this. */
    int64_t rounded = (bytes + 511) / 512 * 512;
    cu_pointer pointer = 0;
    cu_result result = device->driver->allocate(&pointer, (size_t)rounded);
    if (result != CU_SUCCESS) {
        if (result != CU_OUT_OF_MEMORY)
            rt_device_note(device, "taking memory", result);
        return -1;
    }
    block->data = (char *)(uintptr_t)pointer;
    block->bytes = rounded;
    return 0;
}

static void upload(struct rt_device *device, void *to, const void *from, int64_t bytes,
                   const char *step)
{
    if (bytes > 0 && device->failed == CU_SUCCESS)
        rt_device_note(device, step,
                       device->driver->to_device(pointer_to(to), from, (size_t)bytes,
                                                 device->stream));
}

static void download(struct rt_device *device, void *to, const void *from, int64_t bytes,
                     const char *step)
{
    if (bytes > 0 && device->failed == CU_SUCCESS)
        rt_device_note(device, step,
                       device->driver->to_host(to, pointer_to(from), (size_t)bytes,
                                               device->stream));
}

static int bring_weights(rt_session *session)
{
    struct rt_device *device = session->device;
    int64_t bytes = session->weights_bytes;
    if (rt_reserve(session, &device->weights, bytes) && device->failed == CU_SUCCESS)
        return rt_fail(NULL, RT_E_MEMORY,
                       "there is no memory on the GPU for the weights\n  bytes: %lld\n"
                       "  fix: quantize the model, or take a GPU with more memory",
                       (long long)bytes);
    upload(device, device->weights.data, session->mapped, bytes, "bringing weights");
    rt_device_wait(device);
    if (device->failed != CU_SUCCESS)
        return rt_device_error(NULL, device, device->step, device->failed);
    session->weights = device->weights.data;
    return 0;
}

int rt_memory_open(rt_session *session)
{
    int code = rt_device_open(session);
    if (!code)
        code = bring_weights(session);
    if (code)
        return code;
    session->device->hosts =
        calloc((size_t)session->model->info.outputs + 1, sizeof *session->device->hosts);
    return session->device->hosts
               ? 0
               : rt_fail(NULL, RT_E_MEMORY, "there is no memory for a session");
}

void rt_memory_close(rt_session *session)
{
    struct rt_device *device = session->device;
    if (!device)
        return;
    for (int32_t i = 0; device->hosts && i < session->model->info.outputs; i++)
        free(device->hosts[i]);
    free(device->hosts);
    rt_release(session, &device->weights);
    rt_device_close(session);
}

static int64_t bytes_of(const tapeout_tensor *tensor)
{
    int64_t bytes = rt_dtype_bytes(tensor->dtype);
    for (int32_t a = 0; a < tensor->rank; a++)
        bytes = rt_mul(bytes, tensor->dims[a]);
    return bytes;
}

int rt_enter(rt_session *session, const tapeout_tensor *inputs)
{
    struct rt_device *device = session->device;
    device->failed = CU_SUCCESS;
    device->given = inputs;
    rt_device_note(device, "taking hold of the GPU", rt_device_enter(device));
    for (int32_t i = 0; i < session->model->info.inputs; i++) {
        struct rt_block *block = &session->input_blocks[i];
        int64_t bytes = bytes_of(&inputs[i]);
        if (rt_reserve(session, block, bytes) && device->failed == CU_SUCCESS)
            return rt_fail(session, RT_E_MEMORY,
                           "there is no memory on the GPU for input '%.200s'\n  bytes: %lld",
                           session->model->info.input[i].name, (long long)bytes);
        upload(device, block->data, inputs[i].data, bytes, "bringing inputs");
        session->in[i] = block->data;
    }
    if (device->failed != CU_SUCCESS)
        return rt_device_error(session, device, device->step, device->failed);
    return 0;
}

/* What a caller has no memory for is left in the session's. */
int rt_room(rt_session *session, int32_t output, int64_t bytes)
{
    tapeout_tensor *tensor = &session->outputs[output];
    struct rt_block *block = &session->output_blocks[output];
    if (rt_reserve(session, block, bytes))
        return -1;
    session->out[output] = block->data;
    if (tensor->data)
        return 0;
    void *host = realloc(session->device->hosts[output], bytes > 0 ? (size_t)bytes : 1);
    if (!host)
        return -1;
    tensor->data = session->device->hosts[output] = host;
    return 0;
}

int rt_leave(rt_session *session, int code)
{
    struct rt_device *device = session->device;
    const tapeout_info *info = &session->model->info;
    for (int32_t i = info->inputs - info->states; i < info->inputs; i++)
        download(device, device->given[i].data, session->in[i], bytes_of(&device->given[i]),
                 "taking states back");
    for (int32_t i = 0; !code && i < info->outputs; i++)
        download(device, session->outputs[i].data, session->out[i],
                 bytes_of(&session->outputs[i]), "taking outputs back");
    rt_device_wait(device);
    /* Steps read values that are wrong where one before them has failed. */
    if (device->failed != CU_SUCCESS)
        return rt_device_error(session, device, device->step, device->failed);
    return code;
}

void rt_copy(rt_session *session, void *to, const void *from, int64_t bytes)
{
    struct rt_device *device = session->device;
    if (bytes > 0 && device->failed == CU_SUCCESS)
        rt_device_note(device, "copying",
                       device->driver->on_device(pointer_to(to), pointer_to(from), (size_t)bytes,
                                                 device->stream));
}

static void get(rt_session *session, void *value, const void *from, int64_t bytes)
{
    download(session->device, value, from, bytes, "reading a value");
    rt_device_wait(session->device);
}

int64_t rt_get_i64(rt_session *session, const void *from, int64_t place)
{
    int64_t value = 0;
    get(session, &value, (const int64_t *)from + place, sizeof value);
    return session->device->failed == CU_SUCCESS ? value : 0;
}

uint8_t rt_get_u8(rt_session *session, const void *from)
{
    uint8_t value = 0;
    get(session, &value, from, sizeof value);
    return session->device->failed == CU_SUCCESS ? value : 0;
}

/* The driver has read what lies in memory of its caller's stack when it returns. */
void rt_put_i64(rt_session *session, void *to, int64_t place, int64_t value)
{
    upload(session->device, (int64_t *)to + place, &value, sizeof value, "writing a value");
}

void rt_put_u8(rt_session *session, void *to, uint8_t value)
{
    upload(session->device, to, &value, sizeof value, "writing a value");
}
