/* Runs every kernel of every instruction set that this machine has against plain references, each kernel in a
 * process of its own where there are processes, so that a crash is reported as that kernel's failure. Then the
 * public interface. The list of kernels is kernels.def's.
 *
 *   test_kernels [--bench] [--isa NAME] [--kernel NAME]
 */
#if defined(__unix__) || defined(__APPLE__)
#define HAVE_FORK 1
#define _DEFAULT_SOURCE
#define _DARWIN_C_SOURCE
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "cases.h"
#include "cpu.h"
#include "dispatch.h"

enum { SECONDS_PER_KERNEL = 300 };

static const struct {
    const char *name;
    void (*test)(const subject *);
    void (*bench)(bench *, const bc_kernels *);
} kernel_list[] = {
#define BC_KERNEL(name, arguments) {#name, test_##name, bench_##name},
#define BC_CONSTANT(name)
#include "kernels.def"
#undef BC_KERNEL
#undef BC_CONSTANT
};
enum { KERNELS = sizeof kernel_list / sizeof kernel_list[0] };

/* What a child process does. */
typedef struct job {
    char title[80];
    void (*test)(const subject *);
    const subject *isa;
} job;

static check_counts run_here(const job *job) {
    check_reset(job->title);
    random_seed(1);
    job->test(job->isa);
    return check_result();
}

#ifdef HAVE_FORK
static check_counts run_apart(const job *job) {
    check_counts counts = {0, 1};
    int ends[2];
    fflush(stdout);
    if (pipe(ends)) return counts;
    const pid_t child = fork();
    if (child < 0) return counts;
    if (child == 0) {
        close(ends[0]);
        alarm(SECONDS_PER_KERNEL);
        counts = run_here(job);
        fflush(stdout);
        _exit(write(ends[1], &counts, sizeof counts) == (ssize_t)sizeof counts ? 0 : 1);
    }
    close(ends[1]);
    check_counts received;
    const int complete = read(ends[0], &received, sizeof received) == (ssize_t)sizeof received;
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (complete && WIFEXITED(status) && WEXITSTATUS(status) == 0) return received;
    if (WIFSIGNALED(status))
        printf("FAILED %s: signal %d\n", job->title, WTERMSIG(status));
    else
        printf("FAILED %s: exit status %d\n", job->title, WEXITSTATUS(status));
    return counts;
}
#else
static check_counts run_apart(const job *job) { return run_here(job); }
#endif

/* A table must be complete, whatever the instruction set brings itself. */
static void test_table(const subject *isa) {
    case_begin("slots");
#define BC_KERNEL(name, arguments) \
    if (!isa->kernels->name) fail(#name " is missing");
#define BC_CONSTANT(name) BC_KERNEL(name, )
#include "kernels.def"
#undef BC_KERNEL
#undef BC_CONSTANT
    case_end();
}

/* How many instruction sets there must be at least by the features that the processor reports, to notice one that
 * the registry has lost. */
static size_t expected_isas(void) {
    const uint32_t features = bc_cpu_features();
    const uint32_t avx512 = BC_CPU_avx512f | BC_CPU_avx512bw | BC_CPU_avx512dq | BC_CPU_avx512vl |
                            BC_CPU_avx512vpopcntdq | BC_CPU_avx512bitalg;
    const uint32_t vnni = avx512 | BC_CPU_avx512vnni; /* two: carrysave and chain */
    const uint32_t needed[] = {BC_CPU_avx2, avx512, vnni, vnni, BC_CPU_neon, BC_CPU_neon | BC_CPU_asimddp};
    size_t count = 1;
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        count += (features & needed[i]) == needed[i];
    return count;
}

typedef struct options {
    int benchmarking;
    const char *isa, *kernel; /* NULL: all */
} options;

static int parse(int argc, char **argv, options *options) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--bench") == 0)
            options->benchmarking = 1;
        else if (strcmp(argv[i], "--isa") == 0 && i + 1 < argc)
            options->isa = argv[++i];
        else if (strcmp(argv[i], "--kernel") == 0 && i + 1 < argc)
            options->kernel = argv[++i];
        else
            return 0;
    }
    return 1;
}

static int selected(const char *wanted, const char *name) { return !wanted || strcmp(wanted, name) == 0; }

static void run_job(const char *isa, const char *name, void (*test)(const subject *), const subject *subject,
                    check_counts *total) {
    job job = {.test = test, .isa = subject};
    snprintf(job.title, sizeof job.title, "%s %s", isa, name);
    const check_counts counts = run_apart(&job);
    printf("%-36s %6zu passed %6zu failed\n", job.title, counts.passed, counts.failed);
    total->passed += counts.passed;
    total->failed += counts.failed;
}

/* Returns how many kernels have the wanted name. */
static size_t run_kernels(const options *options, const subject *isa, check_counts *total) {
    size_t count = 0;
    for (size_t k = 0; k < KERNELS; k++) {
        const char *name = kernel_list[k].name;
        if (!selected(options->kernel, name)) continue;
        count++;
        if (options->benchmarking) {
            bench timer = {.isa = isa->isa, .kernel = name};
            random_seed(1);
            memory_reset(FENCE_BEFORE);
            kernel_list[k].bench(&timer, isa->kernels);
        } else {
            run_job(isa->isa, name, kernel_list[k].test, isa, total);
        }
    }
    if (!options->benchmarking) run_job(isa->isa, "table", test_table, isa, total);
    return count;
}

int main(int argc, char **argv) {
    options options = {0};
    if (!parse(argc, argv, &options)) {
        fprintf(stderr, "usage: %s [--bench] [--isa NAME] [--kernel NAME]\n", argv[0]);
        return 2;
    }
#ifdef HAVE_FORK
    if (options.isa) setenv("BINCONV_ISA", options.isa, 1); /* before the interface looks at it */
#endif
    setvbuf(stdout, NULL, _IOLBF, 4096); /* what a kernel printed before it crashed must not be lost */

    check_counts total = {0, 0};
    size_t isas = 0, found = 0, named = 0;
    for (; bc_isa_name(isas); isas++) {
        const subject isa = {bc_isa_name(isas), bc_kernels_of(isas), bc_kernels_of(0)};
        if (!selected(options.isa, isa.isa)) continue;
        found++;
        named += run_kernels(&options, &isa, &total);
    }
    if (found && !options.benchmarking && selected(options.kernel, "interface")) {
        named++;
        run_job(options.isa ? options.isa : "best", "interface", test_api, NULL, &total);
    }
    if (isas < expected_isas()) {
        printf("FAILED: this processor has %zu instruction sets, the registry %zu\n", expected_isas(), isas);
        total.failed++;
    }
    if (!named) {
        printf("FAILED: nothing has that name\n");
        total.failed++;
    }
    if (!options.benchmarking) printf("%zu passed, %zu failed\n", total.passed, total.failed);
    return total.failed ? 1 : 0;
}
