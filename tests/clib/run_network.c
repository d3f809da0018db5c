/* Runs a saved network on one image: run_network NETWORK HEIGHT WIDTH. The image comes as float32 from standard
 * input, the result goes as float32 to standard output. */
#include <stdio.h>
#include <stdlib.h>

#include "network.h"

static size_t elements(bc_image image) { return image.height * image.width * image.channels; }

static const char *run(network *net) {
    const size_t inputs = elements(network_source(net)), outputs = elements(network_destination(net));
    float *source = calloc(inputs + 1, sizeof *source), *result = calloc(outputs + 1, sizeof *result);
    const char *error = source && result ? NULL : "memory runs out";
    if (!error && fread(source, sizeof *source, inputs, stdin) != inputs) error = "the image is too short";
    if (!error) {
        const bc_status status = network_run(net, source, result);
        if (status != BC_OK) error = bc_status_string(status);
    }
    if (!error && fwrite(result, sizeof *result, outputs, stdout) != outputs) error = "cannot write";
    free(source);
    free(result);
    return error;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    network *net = NULL;
    const char *error = network_load(argv[1], strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10), &net);
    if (!error) error = run(net);
    network_free(net);
    if (!error) return 0;
    fprintf(stderr, "%s\n", error);
    return 1;
}
