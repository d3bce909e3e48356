/* device.h: a session's GPU, the program's code objects, and how kernels are launched. */

#ifndef TAPEOUT_CUDA_DEVICE_H
#define TAPEOUT_CUDA_DEVICE_H

#include "driver.h"

#define rt_launch RT_NAME(rt_launch)
#define rt_device_open RT_NAME(rt_device_open)
#define rt_device_close RT_NAME(rt_device_close)
#define rt_device_enter RT_NAME(rt_device_enter)
#define rt_device_note RT_NAME(rt_device_note)
#define rt_device_wait RT_NAME(rt_device_wait)
#define rt_device_error RT_NAME(rt_device_error)

#define RT_E_DRIVER 530 /* no driver, or an old one */
#define RT_E_GPU 531    /* no GPU, or none that the program has code for */
#define RT_E_DEVICE 532 /* the driver reports an error */
#define RT_E_CODE 533   /* the driver does not take a code object */

/* A function of the program in a code object of its own. */
typedef struct rt_function {
    const char *name;
    const void *code;
    int32_t warps;
    int32_t shared; /* bytes of dynamic shared memory */
} rt_function;

/* The program for GPUs of a compute capability: 80 runs on 8.0 and on later ones of the same major
 * number, an exact one on no other. The driver is at least that of a CUDA version, 12000 for 12. */
typedef struct rt_image {
    int32_t architecture, exact, driver;
    const rt_function *functions;
} rt_image;

/* Images, and the number of functions that each of them has. */
typedef struct rt_code {
    int32_t images, functions;
    const rt_image *image;
} rt_code;

/* The generated program's. */
extern const rt_code RT_NAME(code);

struct rt_device {
    const cu_driver *driver;
    cu_device number;
    cu_context context;
    cu_stream stream;
    const rt_image *image;
    cu_module *modules; /* by function */
    cu_function *functions;
    struct rt_block weights;
    void **hosts;                /* by output: memory for a caller who has none */
    const tapeout_tensor *given; /* the inputs of this run */
    cu_result failed;            /* the first error of this run */
    const char *step;            /* and what met it */
};

/* Run so many programs of a function; arguments are pointers to its arguments. */
void rt_launch(rt_session *session, int32_t function, int64_t programs, void **arguments);

/* Find a GPU, load the program's code for it. 0, or a code that was told to the opener. */
int rt_device_open(rt_session *session);
void rt_device_close(rt_session *session);

/* Make a session's GPU that of this thread. 0, or the driver's result. */
cu_result rt_device_enter(const struct rt_device *device);

/* Keep the first error of a run; the steps after it are left out. */
void rt_device_note(struct rt_device *device, const char *step, cu_result result);

/* Wait for all steps so far. */
void rt_device_wait(struct rt_device *device);

/* Tell what the driver reports; session is NULL for the opener. Returns RT_E_DEVICE. */
int rt_device_error(rt_session *session, const struct rt_device *device, const char *step,
                    cu_result result);

#endif /* TAPEOUT_CUDA_DEVICE_H */
