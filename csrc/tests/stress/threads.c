/* Many callers at once, each with threads of the pool, for ThreadSanitizer to watch; results must be those of one thread. And
 * processes that end while threads of the pool begin, look for jobs, or go to sleep. */
#define _DEFAULT_SOURCE
#define _DARWIN_C_SOURCE

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "binconv.h"

enum {
    CHANNELS = 64,
    TAPS = 9,
    SIZES = 3,
    LARGEST = 14,
    CALLERS = 24,
    CALLS = 100,
    MOST_THREADS = 300,
    PROCESSES = 300
};
static const size_t sizes[SIZES] = {5, 9, LARGEST};

static bc_plan *plans[SIZES];
static float source[LARGEST * LARGEST * CHANNELS];
static float expected[SIZES][LARGEST * LARGEST * CHANNELS];
static atomic_int wrong;

static void check(bc_status status) {
    if (status == BC_OK) return;
    fprintf(stderr, "%s\n", bc_status_string(status));
    exit(2);
}

/* Runs a plan on so many threads, and returns how its results differ from those at `result`; or puts them there. */
static int run(size_t size, size_t threads, float *result, int compare) {
    const size_t bytes = sizes[size] * sizes[size] * CHANNELS * sizeof(float);
    const size_t workspace_bytes = bc_plan_workspace_bytes(plans[size], threads);
    void *workspace = malloc(workspace_bytes);
    float *destination = malloc(bytes);
    if (!workspace || !destination) exit(2);
    const bc_parallel parallel = {.threads = threads};
    check(bc_plan_run(plans[size], source, destination, workspace, workspace_bytes, &parallel));
    const int differs = compare && memcmp(destination, result, bytes);
    if (!compare) memcpy(result, destination, bytes);
    free(workspace);
    free(destination);
    return differs;
}

static void *call(void *number) {
    unsigned random = *(unsigned *)number;
    for (int i = 0; i < CALLS; i++) {
        random = random * 1664525 + 1013904223;
        const size_t threads = 1 + (random >> 8) % (random >> 30 ? 5 : MOST_THREADS);
        wrong += run((random >> 20) % SIZES, threads, expected[(random >> 20) % SIZES], 1);
    }
    return NULL;
}

static void prepare(void) {
    static uint32_t weights[CHANNELS * TAPS * CHANNELS / 32];
    const size_t words = sizeof weights / sizeof weights[0];
    for (size_t i = 0; i < words; i++) weights[i] = (uint32_t)rand() << 8 ^ (uint32_t)rand();
    for (size_t i = 0; i < sizeof source / sizeof source[0]; i++) source[i] = (float)(rand() % 7 - 3);
    const bc_layer_config config = {.type = BC_XNOR,
                                    .input_channels = CHANNELS,
                                    .output_channels = CHANNELS,
                                    .groups = 1,
                                    .kernel_height = 3,
                                    .kernel_width = 3,
                                    .stride_y = 1,
                                    .stride_x = 1,
                                    .dilation_y = 1,
                                    .dilation_x = 1,
                                    .subpixel_factor = 1,
                                    .weights = weights,
                                    .weights_words = words};
    bc_layer *layer;
    check(bc_layer_create(&config, &layer));
    for (size_t i = 0; i < SIZES; i++) {
        const bc_image image = {BC_FLOAT32, 1, sizes[i], sizes[i], CHANNELS};
        const bc_plan_config plan = {.source = image,
                                     .destination = image,
                                     .images = 1,
                                     .clip_height = sizes[i],
                                     .clip_width = sizes[i]};
        check(bc_plan_create(layer, &plan, &plans[i]));
        run(i, 1, expected[i], 0);
    }
}

/* How many of some child processes do not end well. Each makes a call or two, sometimes with a pause before it ends. */
static int end_processes(void) {
    int bad = 0;
    for (unsigned i = 0; i < PROCESSES; i++) {
        const pid_t child = fork();
        if (child == 0) {
            alarm(20); /* one that hangs dies of it */
            for (unsigned calls = 0; calls <= i % 2; calls++)
                run(i % SIZES, 2 + i % 5, expected[i % SIZES], 1);
            usleep(i % 7 * 400);
            exit(0);
        }
        int status = 1;
        if (child < 0 || waitpid(child, &status, 0) != child || status) bad++;
    }
    return bad;
}

int main(void) {
    prepare();
    wrong += end_processes();
    pthread_t callers[CALLERS];
    unsigned numbers[CALLERS];
    for (unsigned i = 0; i < CALLERS; i++) {
        numbers[i] = i;
        if (pthread_create(&callers[i], NULL, call, &numbers[i])) return 2;
    }
    for (int i = 0; i < CALLERS; i++) pthread_join(callers[i], NULL);
    printf("%d passed, %d failed\n", CALLERS * CALLS + PROCESSES - wrong, (int)wrong);
    return wrong != 0;
}
