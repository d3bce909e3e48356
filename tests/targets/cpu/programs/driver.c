/* Runs a model whose sizes are all fixed: inputs one after the other on standard input, outputs
 * on standard output. usage: driver WEIGHTS THREADS */
#include "tapeout.h"

#include <stdio.h>
#include <stdlib.h>

static size_t count(const tapeout_port *port, tapeout_tensor *tensor)
{
    size_t n = 1;
    tensor->rank = port->rank;
    tensor->dtype = port->dtype;
    for (int a = 0; a < port->rank; a++)
        n *= (size_t)(tensor->dims[a] = port->axes[a].size);
    return n;
}

int main(int argc, char **argv)
{
    const tapeout_info *info = tapeout_describe();
    tapeout_tensor inputs[8] = {0}, outputs[16] = {0};
    tapeout_session *session;
    if (argc != 3 || tapeout_open(argv[1], 0, atoi(argv[2]), &session)) {
        fprintf(stderr, "%s\n", argc == 3 ? tapeout_error(NULL) : "usage");
        return 2;
    }
    for (int i = 0; i < info->inputs; i++) {
        size_t n = count(&info->input[i], &inputs[i]);
        inputs[i].data = malloc(n * sizeof(float));
        if (fread(inputs[i].data, sizeof(float), n, stdin) != n)
            return 3;
    }
    if (tapeout_run(session, inputs, outputs)) {
        fprintf(stderr, "%s\n", tapeout_error(session));
        return 4;
    }
    for (int i = 0; i < info->outputs; i++) {
        tapeout_tensor shape = {0};
        size_t n = count(&info->output[i], &shape);
        fwrite(outputs[i].data, sizeof(float), n, stdout);
    }
    for (int i = 0; i < info->inputs; i++)
        free(inputs[i].data);
    tapeout_close(session);
    return 0;
}
