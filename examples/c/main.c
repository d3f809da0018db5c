/* Classifies the handwritten digits of one safetensors file with the network of another, without Python.
 *
 *   classify NETWORK DIGITS [RUNS]
 *
 * DIGITS has `images`, U8 (N, height, width) from 0 (paper) to 16 (ink), and `labels`, U8 (N). Prints each
 * digit's class, ten on a line, and how many are right. All memory is taken before the first run; RUNS (1) says
 * how often all digits are run, which a test uses to see that running allocates nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "network.h"
#include "safetensors.h"

enum { COLUMNS = 10 };
static const float INK = 16;

/* Digits of a file that is still open. */
typedef struct digits {
    const unsigned char *images, *labels;
    size_t count, height, width;
} digits;

/* What running needs besides the network. */
typedef struct scratch {
    float *grey, *scores;
    size_t *classes;
} scratch;

static const char *find_digits(const safetensors *file, digits *found) {
    const safetensors_tensor *images = safetensors_find(file, "", "images");
    const safetensors_tensor *labels = safetensors_find(file, "", "labels");
    if (!images || images->type != SAFETENSORS_U8 || images->dimensions != 3)
        return "expected images, U8 of three dimensions";
    if (!labels || labels->type != SAFETENSORS_U8 || labels->dimensions != 1 ||
        labels->elements != images->shape[0])
        return "expected labels, U8, as many as images";
    *found = (digits){safetensors_data(file, images), safetensors_data(file, labels), images->shape[0],
                      images->shape[1], images->shape[2]};
    return NULL;
}

static size_t best(const float *scores, size_t count) {
    size_t best = 0;
    for (size_t i = 1; i < count; i++)
        if (scores[i] > scores[best]) best = i;
    return best;
}

static bc_status classify(network *net, const digits *digits, const scratch *scratch) {
    const size_t pixels = digits->height * digits->width;
    for (size_t i = 0; i < digits->count; i++) {
        for (size_t p = 0; p < pixels; p++) scratch->grey[p] = (float)digits->images[i * pixels + p] / INK;
        const bc_status status = network_run(net, scratch->grey, scratch->scores);
        if (status != BC_OK) return status;
        scratch->classes[i] = best(scratch->scores, network_destination(net).channels);
    }
    return BC_OK;
}

static void report(const digits *digits, const size_t *classes) {
    size_t right = 0;
    for (size_t i = 0; i < digits->count; i++) {
        printf("%zu%c", classes[i], (i + 1) % COLUMNS && i + 1 < digits->count ? ' ' : '\n');
        right += classes[i] == digits->labels[i];
    }
    const double share = digits->count ? (double)right / (double)digits->count : 0;
    printf("accuracy %zu of %zu right, %.2f%%\n", right, digits->count, 100 * share);
}

static const char *run(network *net, const digits *digits, const scratch *scratch, long runs) {
    if (!scratch->grey || !scratch->scores || !scratch->classes) return "memory runs out";
    for (long i = 0; i < runs; i++) {
        const bc_status status = classify(net, digits, scratch);
        if (status != BC_OK) return bc_status_string(status);
    }
    if (runs > 0) report(digits, scratch->classes);
    return NULL;
}

static const char *check_shapes(const network *net) {
    const bc_image source = network_source(net), destination = network_destination(net);
    if (source.channels != 1) return "the network does not take grey images";
    if (destination.height != 1 || destination.width != 1) return "the network does not end in scores";
    return NULL;
}

static const char *load_and_run(const char *path, const digits *digits, long runs) {
    network *net = NULL;
    const char *error = network_load(path, digits->height, digits->width, &net);
    if (!error) error = check_shapes(net);
    if (!error) {
        const scratch scratch = {
            .grey = calloc(digits->height * digits->width + 1, sizeof(float)),
            .scores = calloc(network_destination(net).channels, sizeof(float)),
            .classes = calloc(digits->count + 1, sizeof(size_t)),
        };
        error = run(net, digits, &scratch, runs);
        free(scratch.grey);
        free(scratch.scores);
        free(scratch.classes);
    }
    network_free(net);
    return error;
}

static int fail(const char *path, const char *error) {
    fprintf(stderr, "%s: %s\n", path, error);
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: %s NETWORK DIGITS [RUNS]\n", argc ? argv[0] : "classify");
        return 2;
    }
    const char *network_path = argv[1], *digits_path = argv[2];
    const long runs = argc == 4 ? strtol(argv[3], NULL, 10) : 1;
    safetensors file;
    const char *error = safetensors_open(digits_path, &file);
    if (error) return fail(digits_path, error);
    digits digits;
    const char *path = digits_path;
    error = find_digits(&file, &digits);
    if (!error) {
        path = network_path;
        error = load_and_run(network_path, &digits, runs);
    }
    safetensors_close(&file);
    return error ? fail(path, error) : 0;
}
