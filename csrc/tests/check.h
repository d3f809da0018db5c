/* Cases, what is expected of them, and how many passed. */
#ifndef BC_TESTS_CHECK_H
#define BC_TESTS_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "kernels.h"

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF /* the references here round each operation, as the kernels do */
#endif

/* The kernels under test: one instruction set's table. */
typedef struct subject {
    const char *isa;
    const bc_kernels *kernels;
    const bc_kernels *portable;
} subject;

typedef struct check_counts {
    size_t passed, failed;
} check_counts;

/* A case is described by its parameters; case_begin also clears the memory that the last one took. */
#if defined(__GNUC__)
#define PRINTF_LIKE __attribute__((format(printf, 1, 2)))
#else
#define PRINTF_LIKE
#endif
void case_begin(const char *format, ...) PRINTF_LIKE;
void case_end(void);
void fail(const char *format, ...) PRINTF_LIKE;

/* Since the last check_reset. `title` is printed with failures. */
void check_reset(const char *title);
check_counts check_result(void);

void expect_i8(const char *what, const int8_t *actual, const int8_t *expected, size_t count);
void expect_i32(const char *what, const int32_t *actual, const int32_t *expected, size_t count);
void expect_u64(const char *what, const uint64_t *actual, const uint64_t *expected, size_t count);

/* The same bits, or both NaN. */
void expect_f16(const char *what, const uint16_t *actual, const uint16_t *expected, size_t count);
void expect_f32(const char *what, const float *actual, const float *expected, size_t count);

/* Within one float32 of the expected value, or both NaN. */
void expect_neighbour(const char *what, float x, float actual, double expected);

/* |actual - expected| <= tolerance; where expected is infinite or NaN, actual must be the same. */
void expect_near(const char *what, size_t index, float actual, double expected, double tolerance);

#endif
