/* driver.h: the functions of NVIDIA's driver that a program uses, found when it opens.
 *
 * Declared here rather than taken from cuda.h, so that a program is built without CUDA. Sources:
 * the CUDA Driver API reference; names with _v2 are what its headers map the plain names to. */

#ifndef TAPEOUT_CUDA_DRIVER_H
#define TAPEOUT_CUDA_DRIVER_H

#include "internal.h"

#define rt_driver RT_NAME(rt_driver)

typedef int32_t cu_result;
typedef int32_t cu_device;
typedef uint64_t cu_pointer;
typedef struct cu_context_s *cu_context;
typedef struct cu_module_s *cu_module;
typedef struct cu_function_s *cu_function;
typedef struct cu_stream_s *cu_stream;

/* Results, attributes and flags, as cuda.h numbers them. */
#define CU_SUCCESS 0
#define CU_INVALID_VALUE 1
#define CU_OUT_OF_MEMORY 2
#define CU_NO_DEVICE 100
#define CU_MAJOR 75           /* CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR */
#define CU_MINOR 76           /* CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR */
#define CU_MOST_SHARED 97     /* CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN */
#define CU_FUNCTION_SHARED 8  /* CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES */
#define CU_STREAM_ALONE 1     /* CU_STREAM_NON_BLOCKING */

/* Every function: its field, the name in the library, its arguments. */
#define CU_FUNCTIONS(F)                                                                            \
    F(init, "cuInit", (unsigned flags))                                                            \
    F(version, "cuDriverGetVersion", (int *version))                                               \
    F(device, "cuDeviceGet", (cu_device * device, int number))                                     \
    F(attribute, "cuDeviceGetAttribute", (int *value, int attribute, cu_device device))            \
    F(retain, "cuDevicePrimaryCtxRetain", (cu_context * context, cu_device device))                \
    F(release, "cuDevicePrimaryCtxRelease_v2", (cu_device device))                                 \
    F(use, "cuCtxSetCurrent", (cu_context context))                                                \
    F(load, "cuModuleLoadData", (cu_module * module, const void *image))                           \
    F(unload, "cuModuleUnload", (cu_module module))                                                \
    F(function, "cuModuleGetFunction",                                                             \
      (cu_function * function, cu_module module, const char *name))                                \
    F(set, "cuFuncSetAttribute", (cu_function function, int attribute, int value))                 \
    F(allocate, "cuMemAlloc_v2", (cu_pointer * pointer, size_t bytes))                             \
    F(free, "cuMemFree_v2", (cu_pointer pointer))                                                  \
    F(to_device, "cuMemcpyHtoDAsync_v2",                                                           \
      (cu_pointer to, const void *from, size_t bytes, cu_stream stream))                           \
    F(to_host, "cuMemcpyDtoHAsync_v2",                                                             \
      (void *to, cu_pointer from, size_t bytes, cu_stream stream))                                 \
    F(on_device, "cuMemcpyDtoDAsync_v2",                                                           \
      (cu_pointer to, cu_pointer from, size_t bytes, cu_stream stream))                            \
    F(stream, "cuStreamCreate", (cu_stream * stream, unsigned flags))                              \
    F(end_stream, "cuStreamDestroy_v2", (cu_stream stream))                                        \
    F(wait, "cuStreamSynchronize", (cu_stream stream))                                             \
    F(launch, "cuLaunchKernel",                                                                    \
      (cu_function function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,  \
       unsigned block_y, unsigned block_z, unsigned shared, cu_stream stream, void **arguments,    \
       void **extra))                                                                              \
    F(name_of, "cuGetErrorName", (cu_result result, const char **name))

typedef struct cu_driver {
#define CU_FIELD(field, name, arguments) cu_result(*field) arguments;
    CU_FUNCTIONS(CU_FIELD)
#undef CU_FIELD
} cu_driver;

#ifdef __cplusplus
extern "C" {
#endif

/* A driver in place of the system's, for sessions that are opened from now on. It has to have every
 * function, and to outlive them. NULL: the system's again. */
TAPEOUT_API void TAPEOUT_NAME(use_driver)(const cu_driver *driver);

#ifdef __cplusplus
}
#endif

/* The driver's functions. 0, or a code that was told to the opener. */
int rt_driver(const cu_driver **driver);

#endif /* TAPEOUT_CUDA_DRIVER_H */
