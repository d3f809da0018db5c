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

/* What a child process does: one kernel, or the interface for a NULL kernel. */
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

static int selected(const char *wanted, const char *name) { return !wanted || strcmp(wanted, name) == 0; }

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

/* Instruction sets by the features that the processor reports, to notice one that the registry has lost. */
static size_t expected_isas(void) {
    size_t count = 1;
#if defined(__x86_64__) || defined(_M_X64)
    const uint32_t features = bc_cpu_features();
    const uint32_t avx512 = BC_CPU_avx512f | BC_CPU_avx512bw | BC_CPU_avx512dq | BC_CPU_avx512vl |
                            BC_CPU_avx512vpopcntdq | BC_CPU_avx512bitalg;
    count += (features & BC_CPU_avx2) != 0;
    count += (features & avx512) == avx512;
#endif
    return count;
}

int main(int argc, char **argv) {
    const char *wanted_isa = NULL, *wanted_kernel = NULL;
    int benchmarking = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--bench") == 0) {
            benchmarking = 1;
        } else if (strcmp(argv[i], "--isa") == 0 && i + 1 < argc) {
            wanted_isa = argv[++i];
        } else if (strcmp(argv[i], "--kernel") == 0 && i + 1 < argc) {
            wanted_kernel = argv[++i];
        } else {
            fprintf(stderr, "usage: %s [--bench] [--isa NAME] [--kernel NAME]\n", argv[0]);
            return 2;
        }
    }

    setvbuf(stdout, NULL, _IOLBF, 4096); /* what a kernel printed before it crashed must not be lost */
    check_counts total = {0, 0};
    size_t isas = 0, kernels_run = 0;
    for (size_t i = 0; bc_isa_name(i); i++) {
        const subject isa = {bc_isa_name(i), bc_kernels_of(i), bc_kernels_of(0)};
        isas++;
        if (!selected(wanted_isa, isa.isa)) continue;
        for (size_t k = 0; k <= KERNELS; k++) {
            const char *name = k < KERNELS ? kernel_list[k].name : "table";
            if (!selected(wanted_kernel, name)) continue;
            kernels_run++;
            if (benchmarking && k < KERNELS) {
                bench timer = {.isa = isa.isa, .kernel = name};
                random_seed(1);
                memory_reset(FENCE_BEFORE);
                kernel_list[k].bench(&timer, isa.kernels);
            }
            if (benchmarking) continue;
            job job = {.test = k < KERNELS ? kernel_list[k].test : test_table, .isa = &isa};
            snprintf(job.title, sizeof job.title, "%s %s", isa.isa, name);
            const check_counts counts = run_apart(&job);
            printf("%-36s %6zu passed %6zu failed\n", job.title, counts.passed, counts.failed);
            total.passed += counts.passed;
            total.failed += counts.failed;
        }
    }
    if (benchmarking) return kernels_run ? 0 : 2;

    if (selected(wanted_kernel, "interface") && !wanted_isa) {
        kernels_run++;
        const job job = {.title = "interface", .test = test_api};
        const check_counts counts = run_apart(&job);
        printf("%-36s %6zu passed %6zu failed\n", job.title, counts.passed, counts.failed);
        total.passed += counts.passed;
        total.failed += counts.failed;
    }
    if (isas < expected_isas()) {
        printf("FAILED: this processor has %zu instruction sets, the registry %zu\n", expected_isas(), isas);
        total.failed++;
    }
    if (!kernels_run) {
        printf("FAILED: nothing has that name\n");
        total.failed++;
    }
    printf("%zu passed, %zu failed\n", total.passed, total.failed);
    return total.failed ? 1 : 0;
}
