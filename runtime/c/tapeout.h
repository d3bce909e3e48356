/* tapeout.h: the C interface of a compiled model. C11 and C++.
 *
 * A session maps the weights, owns all working memory and runs the model. One session serves one
 * caller at a time; open one per thread, or lock. Every function that returns int gives 0 when it
 * worked, else a code N whose error is E0N (515 is E0515), told in full by tapeout_error.
 *
 * Tensors are dense and row-major; data needs no more alignment than its element.
 *
 * Several models in one program: compile the sources of each with its own -DTAPEOUT_PREFIX=name,
 * and include this header once per model with TAPEOUT_PREFIX defined to the same name. Every
 * external symbol then starts with that name: mlp_open, mlp_run, ... The types are shared. */

#ifndef TAPEOUT_H
#define TAPEOUT_H

#include <stdint.h>

#define TAPEOUT_ABI 2
#define TAPEOUT_MAX_RANK 8

typedef enum tapeout_dtype {
    TAPEOUT_F32 = 1,
    TAPEOUT_F64,
    TAPEOUT_F16,
    TAPEOUT_BF16,
    TAPEOUT_I8,
    TAPEOUT_I16,
    TAPEOUT_I32,
    TAPEOUT_I64,
    TAPEOUT_U8,
    TAPEOUT_U16,
    TAPEOUT_U32,
    TAPEOUT_U64,
    TAPEOUT_BOOL, /* one byte, 0 or 1 */
    TAPEOUT_F8E4M3FN,
    TAPEOUT_F8E4M3FNUZ,
    TAPEOUT_F8E5M2,
    TAPEOUT_F8E5M2FNUZ,
    TAPEOUT_F8E8M0,
    TAPEOUT_I4, /* narrower than a byte: one to a byte, in its low bits */
    TAPEOUT_U4,
    TAPEOUT_I2,
    TAPEOUT_U2,
    TAPEOUT_F4E2M1
} tapeout_dtype;

typedef struct tapeout_tensor {
    void *data;
    int64_t dims[TAPEOUT_MAX_RANK];
    int32_t rank;
    int32_t dtype; /* a tapeout_dtype */
} tapeout_tensor;

/* A symbolic size that the inputs decide; lo and hi are both allowed. */
typedef struct tapeout_symbol {
    const char *name;
    int64_t lo, hi;
} tapeout_symbol;

/* One axis: a fixed size, or size -1, the slot that holds its value, and its text ("2*S + 1"). */
typedef struct tapeout_axis {
    int64_t size;
    int32_t slot;
    const char *text;
} tapeout_axis;

/* An input or output. Names are the model's own, escaped to printable ASCII. */
typedef struct tapeout_port {
    const char *name;
    int32_t dtype;
    int32_t rank;
    const tapeout_axis *axes;
} tapeout_port;

typedef struct tapeout_info {
    int32_t abi; /* TAPEOUT_ABI of the generator */
    int32_t inputs, states, outputs, symbols, kernels;
    const tapeout_port *input; /* the last of them are the states */
    const tapeout_port *output;
    const tapeout_symbol *symbol;
    const char *const *kernel; /* names, in the order of the profile counters */
    int64_t weights_bytes;
} tapeout_info;

typedef struct tapeout_counter {
    uint64_t calls;
    uint64_t nanoseconds;
} tapeout_counter;

typedef struct tapeout_session tapeout_session;

#endif /* TAPEOUT_H */

#ifndef TAPEOUT_PREFIX
#define TAPEOUT_PREFIX tapeout
#endif

#ifndef TAPEOUT_NAME
#define TAPEOUT_JOIN_(prefix, name) prefix##_##name
#define TAPEOUT_JOIN(prefix, name) TAPEOUT_JOIN_(prefix, name)
#define TAPEOUT_NAME(name) TAPEOUT_JOIN(TAPEOUT_PREFIX, name)
#if defined(__GNUC__)
#define TAPEOUT_API __attribute__((visibility("default")))
#else
#define TAPEOUT_API
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What the model takes, gives and is made of. Valid for ever. */
TAPEOUT_API const tapeout_info *TAPEOUT_NAME(describe)(void);

/* Map the weights that start at weights_offset of a file (0 for a bare weights.bin; the path may
 * be NULL for a model without weights). threads <= 0: one per CPU this process may use. On failure
 * *out is NULL and tapeout_error(NULL) tells why. */
TAPEOUT_API int TAPEOUT_NAME(open)(const char *weights_path, int64_t weights_offset, int threads,
                                   tapeout_session **out);

/* The same with weights already in memory, which must outlive the session. */
TAPEOUT_API int TAPEOUT_NAME(open_memory)(const void *weights, int64_t bytes, int threads,
                                          tapeout_session **out);

TAPEOUT_API void TAPEOUT_NAME(close)(tapeout_session *session);

/* Run the model once: info->inputs tensors in, info->outputs tensors out.
 *
 * The data of an input may be NULL only where the tensor is empty. It is not written to, but for
 * the last info->states inputs: a state's data is what the run before left there, and the run
 * changes it; a run that fails may have changed part of it.
 * An output whose data is NULL is left in memory of the session, valid until its next call. Else
 * the result is written to data: dims must say what the buffer holds, which is the exact shape, or
 * for a shape known only after the run any shape with room enough. dtype and rank of an output are
 * set by the call, and dims to the true shape. */
TAPEOUT_API int TAPEOUT_NAME(run)(tapeout_session *session, const tapeout_tensor *inputs,
                                  tapeout_tensor *outputs);

/* Set dtype, rank and dims of every output from the inputs' dims (their data is not read); -1
 * where a size is known only after the run. Checks the inputs as tapeout_run does. */
TAPEOUT_API int TAPEOUT_NAME(output_shapes)(tapeout_session *session, const tapeout_tensor *inputs,
                                            tapeout_tensor *outputs);

/* The last failure of this session; of this thread's last failed open when session is NULL. */
TAPEOUT_API const char *TAPEOUT_NAME(error)(const tapeout_session *session);

/* Start (1) or stop (0) the counters, zeroed; then read them: info->kernels of them. */
TAPEOUT_API void TAPEOUT_NAME(profile)(tapeout_session *session, int enable);
TAPEOUT_API const tapeout_counter *TAPEOUT_NAME(counters)(const tapeout_session *session);

/* Bytes held now, weights not counted: arena, scratch, late and output memory. */
TAPEOUT_API int64_t TAPEOUT_NAME(memory)(const tapeout_session *session);

/* Checksum of the mapped weights, to be compared with "checksum" of weights.bin in manifest.json.
 * Reads every byte at memory speed on all threads. */
TAPEOUT_API uint64_t TAPEOUT_NAME(checksum)(tapeout_session *session);

/* The same of any bytes, on the caller's thread: for the other files of the artifact. */
TAPEOUT_API uint64_t TAPEOUT_NAME(checksum_of)(const void *data, int64_t bytes);

#ifdef __cplusplus
}
#endif
