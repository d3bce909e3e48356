/* device.c: from a driver to functions that can be launched. */

#define _GNU_SOURCE
#include "device.h"

#include <stdlib.h>

/* Shared memory that a function gets without asking for it. */
#define USUAL_SHARED 49152

static const char *name_of(const struct rt_device *device, cu_result result)
{
    const char *name = NULL;
    device->driver->name_of(result, &name);
    return name ? name : "unknown";
}

int rt_device_error(rt_session *session, const struct rt_device *device, const char *step,
                    cu_result result)
{
    return rt_fail(session, RT_E_DEVICE,
                   "the GPU driver reports an error\n  step: %.300s\n  error: %s (%d)", step,
                   name_of(device, result), (int)result);
}

void rt_device_note(struct rt_device *device, const char *step, cu_result result)
{
    if (result == CU_SUCCESS || device->failed != CU_SUCCESS)
        return;
    device->failed = result;
    device->step = step;
}

void rt_device_wait(struct rt_device *device)
{
    rt_device_note(device, "waiting for kernels", device->driver->wait(device->stream));
}

cu_result rt_device_enter(const struct rt_device *device)
{
    return device->driver->use(device->context);
}

static int start_driver(const struct rt_device *device)
{
    cu_result result = device->driver->init(0);
    if (result == CU_NO_DEVICE)
        return rt_fail(NULL, RT_E_GPU,
                       "there is no GPU in this machine\n"
                       "  fix: look for it with nvidia-smi, or try the program with tapeout run "
                       "--emulate");
    if (result != CU_SUCCESS)
        return rt_fail(NULL, RT_E_DRIVER,
                       "the GPU driver does not start\n  error: %s (%d)\n"
                       "  fix: see what nvidia-smi says",
                       name_of(device, result), (int)result);
    return 0;
}

static int runs_on(const rt_image *image, int major, int minor)
{
    int is_exact = image->architecture == 10 * major + minor;
    int is_later = image->architecture / 10 == major && image->architecture % 10 <= minor;
    return image->exact ? is_exact : is_later;
}

/* The image for the latest of the architectures that the GPU takes. */
static int choose_image(struct rt_device *device)
{
    const rt_code *code = &RT_NAME(code);
    int major = 0, minor = 0, version = 0;
    cu_result result = device->driver->attribute(&major, CU_MAJOR, device->number);
    if (result == CU_SUCCESS)
        result = device->driver->attribute(&minor, CU_MINOR, device->number);
    if (result == CU_SUCCESS)
        result = device->driver->version(&version);
    if (result != CU_SUCCESS)
        return rt_device_error(NULL, device, "looking at the GPU", result);
    for (int32_t i = 0; i < code->images; i++) {
        const rt_image *image = &code->image[i];
        int is_better = !device->image || image->architecture > device->image->architecture;
        if (is_better && runs_on(image, major, minor))
            device->image = image;
    }
    if (!device->image)
        return rt_fail(NULL, RT_E_GPU,
                       "the program has no code for this GPU\n  compute capability: %d.%d\n"
                       "  fix: see tapeout targets for the GPUs that there is code for",
                       major, minor);
    if (version < device->image->driver)
        return rt_fail(NULL, RT_E_DRIVER,
                       "the GPU driver is too old\n  needed: for CUDA %d.%d\n  got: for CUDA %d.%d\n"
                       "  fix: install a newer driver of NVIDIA",
                       (int)device->image->driver / 1000, (int)device->image->driver % 1000 / 10,
                       version / 1000, version % 1000 / 10);
    return 0;
}

static int refuse_code(const struct rt_device *device, const char *function, cu_result result)
{
    if (result == CU_OUT_OF_MEMORY)
        return rt_fail(NULL, RT_E_MEMORY, "there is no memory on the GPU for the program's code");
    return rt_fail(NULL, RT_E_CODE,
                   "the GPU driver does not take a code object\n  kernel: %.300s\n  error: %s (%d)\n"
                   "  fix: copy the artifact again, or compile the model again",
                   function, name_of(device, result), (int)result);
}

static int load_function(struct rt_device *device, int32_t i, int most_shared)
{
    const cu_driver *driver = device->driver;
    const rt_function *function = &device->image->functions[i];
    if (function->shared > most_shared)
        return rt_fail(NULL, RT_E_GPU,
                       "the GPU has too little shared memory\n  kernel: %.300s\n  needed: %d\n"
                       "  got: %d",
                       function->name, (int)function->shared, most_shared);
    cu_result result = driver->load(&device->modules[i], function->code);
    if (result == CU_SUCCESS)
        result = driver->function(&device->functions[i], device->modules[i], function->name);
    if (result == CU_SUCCESS && function->shared > USUAL_SHARED)
        result = driver->set(device->functions[i], CU_FUNCTION_SHARED, function->shared);
    return result == CU_SUCCESS ? 0 : refuse_code(device, function->name, result);
}

static int load_functions(struct rt_device *device)
{
    size_t functions = (size_t)RT_NAME(code).functions;
    int most_shared = 0;
    cu_result result = device->driver->attribute(&most_shared, CU_MOST_SHARED, device->number);
    if (result != CU_SUCCESS)
        return rt_device_error(NULL, device, "looking at the GPU", result);
    device->modules = calloc(functions + 1, sizeof *device->modules);
    device->functions = calloc(functions + 1, sizeof *device->functions);
    if (!device->modules || !device->functions)
        return rt_fail(NULL, RT_E_MEMORY, "there is no memory for a session");
    int code = 0;
    for (int32_t i = 0; !code && i < RT_NAME(code).functions; i++)
        code = load_function(device, i, most_shared);
    return code;
}

int rt_device_open(rt_session *session)
{
    struct rt_device *device = session->device = calloc(1, sizeof *device);
    if (!device)
        return rt_fail(NULL, RT_E_MEMORY, "there is no memory for a session");
    int code = rt_driver(&device->driver);
    if (!code)
        code = start_driver(device);
    if (code)
        return code;
    const cu_driver *driver = device->driver;
    cu_result result = driver->device(&device->number, 0);
    if (result != CU_SUCCESS)
        return rt_device_error(NULL, device, "looking for a GPU", result);
    if ((code = choose_image(device)))
        return code;
    result = driver->retain(&device->context, device->number);
    if (result == CU_SUCCESS)
        result = rt_device_enter(device);
    if (result == CU_SUCCESS)
        result = driver->stream(&device->stream, CU_STREAM_ALONE);
    if (result == CU_OUT_OF_MEMORY)
        return rt_fail(NULL, RT_E_MEMORY, "there is no memory on the GPU for another program");
    if (result != CU_SUCCESS)
        return rt_device_error(NULL, device, "taking hold of the GPU", result);
    return load_functions(device);
}

void rt_device_close(rt_session *session)
{
    struct rt_device *device = session->device;
    if (!device)
        return;
    const cu_driver *driver = device->driver;
    for (int32_t i = 0; device->modules && i < RT_NAME(code).functions; i++)
        if (device->modules[i])
            driver->unload(device->modules[i]);
    if (device->stream)
        driver->end_stream(device->stream);
    if (device->context)
        driver->release(device->number);
    free(device->modules);
    free(device->functions);
    free(device);
    session->device = NULL;
}

void rt_launch(rt_session *session, int32_t function, int64_t programs, void **arguments)
{
    struct rt_device *device = session->device;
    const rt_function *its = &device->image->functions[function];
    if (device->failed != CU_SUCCESS || programs <= 0)
        return;
    cu_result result = CU_INVALID_VALUE; /* a grid has no more programs than an int counts */
    if (programs <= INT32_MAX)
        result = device->driver->launch(device->functions[function], (unsigned)programs, 1, 1,
                                        32 * (unsigned)its->warps, 1, 1, (unsigned)its->shared,
                                        device->stream, arguments, NULL);
    rt_device_note(device, its->name, result);
    if (session->profiling)
        rt_device_wait(device);
}
