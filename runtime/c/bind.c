/* bind.c: inputs are checked and give the symbols their values; outputs get their shapes. */

#include "internal.h"

#include <stdio.h>
#include <string.h>

#define UNBOUND INT64_MIN
/* The greatest size that is written for a symbol without a limit. */
#define RT_NO_LIMIT (INT64_C(1) << 62)

static int refuse_dtype(rt_session *session, const tapeout_port *port, int32_t found)
{
    return rt_fail(session, RT_E_DTYPE,
                   "input '%.200s' has another element type\n  expected: %s\n  got: %s\n"
                   "  fix: convert the tensor before the call",
                   port->name, rt_dtype_name(port->dtype), rt_dtype_name(found));
}

static int refuse_rank(rt_session *session, const tapeout_port *port, int32_t found)
{
    return rt_fail(session, RT_E_RANK,
                   "input '%.200s' has another number of axes\n  expected: %d\n  got: %d\n"
                   "  fix: reshape the tensor before the call",
                   port->name, (int)port->rank, (int)found);
}

static int refuse_size(rt_session *session, const tapeout_port *port, int32_t axis, int64_t found)
{
    return rt_fail(session, RT_E_DIM,
                   "input '%.200s' has another size\n  axis: %d\n  expected: %lld\n  got: %lld\n"
                   "  fix: pad, cut or batch the tensor to the size that was compiled",
                   port->name, (int)axis, (long long)port->axes[axis].size, (long long)found);
}

/* "1 to 512", or "1 or more" for a symbol without a limit. */
static void write_range(char *text, size_t bytes, const tapeout_symbol *symbol)
{
    if (symbol->hi >= RT_NO_LIMIT)
        snprintf(text, bytes, "%lld or more", (long long)symbol->lo);
    else
        snprintf(text, bytes, "%lld to %lld", (long long)symbol->lo, (long long)symbol->hi);
}

static int refuse_range(rt_session *session, const tapeout_port *port, int32_t axis, int64_t found)
{
    const tapeout_symbol *symbol = &session->model->info.symbol[port->axes[axis].slot];
    char range[48];
    write_range(range, sizeof range, symbol);
    return rt_fail(session, RT_E_DIM,
                   "input '%.200s' has a size outside its range\n  axis: %d\n"
                   "  expected: %.100s is %s\n  got: %lld\n"
                   "  fix: stay in the range, or compile with a wider --dim",
                   port->name, (int)axis, symbol->name, range, (long long)found);
}

static int refuse_unequal(rt_session *session, const tapeout_port *port, int32_t axis,
                          int64_t found, int64_t bound)
{
    return rt_fail(session, RT_E_CONSTRAINT,
                   "input '%.200s' disagrees with an axis before it\n  axis: %d\n"
                   "  expected: %.100s = %lld\n  got: %lld\n"
                   "  fix: give the axes of this name one size",
                   port->name, (int)axis,
                   session->model->info.symbol[port->axes[axis].slot].name, (long long)bound,
                   (long long)found);
}

/* Every input agrees with the sizes that are bound already: the way of every call but the first. */
static int agrees(const rt_session *session, const tapeout_tensor *inputs)
{
    const tapeout_info *info = &session->model->info;
    for (int32_t i = 0; i < info->inputs; i++) {
        const tapeout_port *port = &info->input[i];
        if (inputs[i].dtype != port->dtype || inputs[i].rank != port->rank)
            return 0;
        for (int32_t a = 0; a < port->rank; a++) {
            const tapeout_axis *axis = &port->axes[a];
            if (inputs[i].dims[a] != (axis->size >= 0 ? axis->size : session->dims[axis->slot]))
                return 0;
        }
    }
    return 1;
}

static int bind_axis(rt_session *session, const tapeout_port *port, int32_t a, int64_t found)
{
    const tapeout_axis *axis = &port->axes[a];
    if (axis->size >= 0)
        return found == axis->size ? 0 : refuse_size(session, port, a, found);
    const tapeout_symbol *symbol = &session->model->info.symbol[axis->slot];
    int64_t *bound = &session->dims[axis->slot];
    if (found < symbol->lo || found > symbol->hi)
        return refuse_range(session, port, a, found);
    if (*bound != UNBOUND && *bound != found)
        return refuse_unequal(session, port, a, found, *bound);
    *bound = found;
    return 0;
}

static int bind_input(rt_session *session, const tapeout_port *port, const tapeout_tensor *input)
{
    if (input->dtype != port->dtype)
        return refuse_dtype(session, port, input->dtype);
    if (input->rank != port->rank)
        return refuse_rank(session, port, input->rank);
    for (int32_t a = 0; a < port->rank; a++) {
        int code = bind_axis(session, port, a, input->dims[a]);
        if (code)
            return code;
    }
    return 0;
}

int rt_bind(rt_session *session, const tapeout_tensor *inputs)
{
    const rt_model *model = session->model;
    if (RT_LIKELY(session->bound && agrees(session, inputs)))
        return 0;
    session->bound = 0;
    session->planned = session->planned && !model->sizes;
    for (int32_t i = 0; i < model->info.symbols; i++)
        session->dims[i] = UNBOUND;
    for (int32_t i = 0; i < model->info.inputs; i++) {
        int code = bind_input(session, &model->info.input[i], &inputs[i]);
        if (code)
            return code;
    }
    int code = model->derive ? model->derive(session) : 0;
    session->bound = code == 0;
    return code;
}

/* The true shape of an output as far as it is known. */
void rt_shape_output(const rt_session *session, int32_t output, tapeout_tensor *tensor)
{
    const tapeout_port *port = &session->model->info.output[output];
    tensor->dtype = port->dtype;
    tensor->rank = port->rank;
    for (int32_t a = 0; a < port->rank; a++) {
        const tapeout_axis *axis = &port->axes[a];
        tensor->dims[a] = axis->size >= 0 ? axis->size : session->dims[axis->slot];
    }
}

static int refuse_output(rt_session *session, const tapeout_port *port, const char *what,
                         int64_t expected, int64_t found)
{
    return rt_fail(session, RT_E_OUTPUT,
                   "the buffer of output '%.200s' %s\n  expected: %lld\n  got: %lld\n"
                   "  fix: ask tapeout_output_shapes, or pass a buffer of NULL",
                   port->name, what, (long long)expected, (long long)found);
}

static int is_late(const rt_session *session, const tapeout_port *port)
{
    const rt_model *model = session->model;
    for (int32_t a = 0; a < port->rank; a++)
        if (port->axes[a].size < 0 && port->axes[a].slot >= model->info.symbols + model->derived)
            return 1;
    return 0;
}

/* A caller's buffer must have the exact shape, or room enough where the shape is known late. */
static int check_buffer(rt_session *session, const tapeout_port *port, const tapeout_tensor *given,
                        const tapeout_tensor *shape)
{
    if (given->rank != port->rank)
        return refuse_output(session, port, "has another number of axes", port->rank, given->rank);
    int64_t need = 1, room = 1;
    int late = is_late(session, port);
    for (int32_t a = 0; a < port->rank; a++) {
        if (!late && given->dims[a] != shape->dims[a])
            return refuse_output(session, port, "has another size", shape->dims[a], given->dims[a]);
        need = rt_mul(need, shape->dims[a]);
        room = rt_mul(room, given->dims[a] > 0 ? given->dims[a] : 0);
    }
    return need <= room ? 0 : refuse_output(session, port, "is too small", need, room);
}

static int make_room(rt_session *session, int32_t output)
{
    const tapeout_tensor *tensor = &session->outputs[output];
    int64_t bytes = rt_dtype_bytes(tensor->dtype);
    for (int32_t a = 0; a < tensor->rank; a++)
        bytes = rt_mul(bytes, tensor->dims[a]);
    if (rt_room(session, output, bytes))
        return rt_fail(session, RT_E_MEMORY,
                       "there is no memory for output '%.200s'\n  bytes: %lld",
                       session->model->info.output[output].name, (long long)bytes);
    return 0;
}

/* Fill in shape and data of one output of this run, when its shape is known by now. */
int rt_output(rt_session *session, int32_t output)
{
    const tapeout_port *port = &session->model->info.output[output];
    tapeout_tensor *tensor = &session->outputs[output], shape;
    rt_shape_output(session, output, &shape);
    for (int32_t a = 0; a < port->rank; a++)
        if (shape.dims[a] < 0)
            return 0;
    if (tensor->data) {
        int code = check_buffer(session, port, tensor, &shape);
        if (code)
            return code;
    }
    void *data = tensor->data;
    *tensor = shape;
    tensor->data = data;
    return make_room(session, output);
}
