/* Cold start with this project from C: map the weights, encode one short sentence, print.
 *
 *     tapeout_main WEIGHTS ROWS LENGTH TOKENS    TOKENS: the int64 inputs one after the other,
 *                                                in the order of the model's inputs */

#include "tapeout.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PORTS_MAX = 8, SHOWN = 8 };

static int fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    return 1;
}

static int64_t *read_tokens(const char *path, size_t count)
{
    FILE *file = fopen(path, "rb");
    int64_t *tokens = file ? malloc(count * sizeof *tokens) : NULL;
    size_t got = tokens ? fread(tokens, sizeof *tokens, count, file) : 0;
    if (file)
        fclose(file);
    return got == count ? tokens : NULL;
}

static int output_named(const tapeout_info *info, const char *name)
{
    for (int i = 0; i < info->outputs; i++)
        if (strcmp(info->output[i].name, name) == 0)
            return i;
    return -1;
}

int main(int count, char **arguments)
{
    if (count != 5)
        return fail("usage: tapeout_main WEIGHTS ROWS LENGTH TOKENS");
    const tapeout_info *info = tapeout_describe();
    int64_t rows = atoll(arguments[2]), length = atoll(arguments[3]), size = rows * length;
    int embedding = output_named(info, "sentence_embedding");
    if (info->inputs > PORTS_MAX || info->outputs > PORTS_MAX || embedding < 0)
        return fail("the model has other inputs or outputs than expected");
    int64_t *tokens = read_tokens(arguments[4], (size_t)(size * info->inputs));
    if (!tokens)
        return fail("cannot read the tokens");

    tapeout_tensor inputs[PORTS_MAX] = {0}, outputs[PORTS_MAX] = {0};
    for (int i = 0; i < info->inputs; i++)
        inputs[i] = (tapeout_tensor){tokens + i * size, {rows, length}, 2, TAPEOUT_I64};
    tapeout_session *session;
    if (tapeout_open(arguments[1], 0, 0, &session))
        return fail(tapeout_error(NULL));
    if (tapeout_run(session, inputs, outputs))
        return fail(tapeout_error(session));
    const float *values = outputs[embedding].data;
    for (int i = 0; i < SHOWN; i++)
        printf(i ? " %.5f" : "%.5f", (double)values[i]);
    printf("\n");
    tapeout_close(session);
    free(tokens);
    return 0;
}
