#include "check.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "memory.h"

enum { MAX_REPORTS = 8 };

static struct {
    const char *title;
    char description[256];
    size_t failures_in_case;
    size_t cases;
    check_counts counts;
} state;

void check_reset(const char *title) {
    memset(&state, 0, sizeof state);
    state.title = title;
}

check_counts check_result(void) { return state.counts; }

void case_begin(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(state.description, sizeof state.description, format, arguments);
    va_end(arguments);
    state.failures_in_case = 0;
    state.cases++;
    memory_reset(state.cases % 2 ? FENCE_AFTER : FENCE_BEFORE);
}

void fail(const char *format, ...) {
    state.failures_in_case++;
    if (state.failures_in_case > 1 || state.counts.failed >= MAX_REPORTS) return;
    printf("FAILED %s: %s: ", state.title, state.description);
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}

void case_end(void) {
    const ptrdiff_t broken = memory_broken_guard();
    if (broken >= 0) fail("wrote outside output %td", broken);
    if (state.failures_in_case)
        state.counts.failed++;
    else
        state.counts.passed++;
}

#define EXPECT_EQUAL(FORMAT, TYPE)                                                                        \
    for (size_t i = 0; i < count; i++) {                                                                  \
        if (actual[i] != expected[i]) {                                                                   \
            fail("%s[%zu] is " FORMAT ", expected " FORMAT, what, i, (TYPE)actual[i], (TYPE)expected[i]); \
            return;                                                                                       \
        }                                                                                                 \
    }

void expect_i8(const char *what, const int8_t *actual, const int8_t *expected, size_t count) {
    EXPECT_EQUAL("%d", int)
}

void expect_i32(const char *what, const int32_t *actual, const int32_t *expected, size_t count) {
    EXPECT_EQUAL("%ld", long)
}

void expect_u64(const char *what, const uint64_t *actual, const uint64_t *expected, size_t count) {
    EXPECT_EQUAL("0x%llx", unsigned long long)
}

static int is_nan_f16(uint16_t half) { return (half & 0x7fff) > 0x7c00; }

void expect_f16(const char *what, const uint16_t *actual, const uint16_t *expected, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (actual[i] == expected[i] || (is_nan_f16(actual[i]) && is_nan_f16(expected[i]))) continue;
        fail("%s[%zu] is float16 0x%04x, expected 0x%04x", what, i, actual[i], expected[i]);
        return;
    }
}

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

void expect_f32(const char *what, const float *actual, const float *expected, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (bits_of(actual[i]) == bits_of(expected[i]) || (isnan(actual[i]) && isnan(expected[i]))) continue;
        fail("%s[%zu] is %.9g (0x%08x), expected %.9g (0x%08x)", what, i, (double)actual[i],
             (unsigned)bits_of(actual[i]), (double)expected[i], (unsigned)bits_of(expected[i]));
        return;
    }
}

/* Consecutive floats are consecutive integers; both zeros are 0. */
static int64_t place_among_floats(float value) {
    const int64_t magnitude = bits_of(value) & 0x7fffffff;
    return signbit(value) ? -magnitude : magnitude;
}

void expect_neighbour(const char *what, float x, float actual, double expected) {
    if (isnan(actual) && isnan(expected)) return;
    const int64_t distance = place_among_floats(actual) - place_among_floats((float)expected);
    if (!isnan(actual) && !isnan(expected) && distance >= -1 && distance <= 1) return;
    fail("%s(%.9g) is %.9g, expected %.12g", what, (double)x, (double)actual, expected);
}

void expect_near(const char *what, size_t index, float actual, double expected, double tolerance) {
    if (isnan(actual) && isnan(expected)) return;
    if ((double)actual == expected || fabs((double)actual - expected) <= tolerance) return;
    fail("%s[%zu] is %.9g, expected %.12g within %.3g", what, index, (double)actual, expected, tolerance);
}
