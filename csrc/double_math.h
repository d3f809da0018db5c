/* exp, log and their kin in double precision, for loops that a compiler turns into vectors: no call, no
 * branch, no table. Only IEEE additions, multiplications, divisions, comparisons and bit patterns are
 * used, and nothing is contracted, so that every instruction set and compiler gives the same bits.
 *
 * They serve results that are rounded to float32 (2^-24 = 6e-8): all are good to 1e-13 relative, also for
 * tiny results, and follow C's rules for zeros, infinities and NaN. Coefficients were fitted with mpmath
 * in 60 digits (polynomials by Chebyshev interpolation, the rational by iteratively reweighted least
 * squares), then rounded to double; the errors beside them are of the rounded ones.
 */
#ifndef BC_DOUBLE_MATH_H
#define BC_DOUBLE_MATH_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "bits.h"

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF /* what GCC's -std=c11 means by itself */
#endif

BC_FORCE_INLINE uint64_t bc_bits_of_double(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

BC_FORCE_INLINE double bc_double_of_bits(uint64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* condition ? yes : no, without a branch. Compilers must not move arithmetic that may raise a
 * floating-point flag out of a branch, and so keep loops scalar that have one. */
BC_FORCE_INLINE double bc_select(int condition, double yes, double no) {
    const uint64_t mask = 0 - (uint64_t)condition;
    return bc_double_of_bits((bc_bits_of_double(yes) & mask) | (bc_bits_of_double(no) & ~mask));
}

BC_FORCE_INLINE float bc_select_f32(int condition, float yes, float no) {
    const uint32_t mask = 0 - (uint32_t)condition;
    uint32_t yes_bits, no_bits;
    memcpy(&yes_bits, &yes, sizeof yes);
    memcpy(&no_bits, &no, sizeof no);
    const uint32_t bits = (yes_bits & mask) | (no_bits & ~mask);
    float selected;
    memcpy(&selected, &bits, sizeof bits);
    return selected;
}

BC_FORCE_INLINE double bc_at_least64(double x, double limit) { return bc_select(x < limit, limit, x); }

BC_FORCE_INLINE double bc_at_most64(double x, double limit) { return bc_select(x > limit, limit, x); }

/* With |n| < 2^51: in n + BC_ROUND the integer nearest to n (ties to even) fills the low bits. */
#define BC_ROUND 6755399441055744.0 /* 1.5 * 2^52 */

#define BC_LN2_HIGH 0x1.62e42feep-1 /* 33 bits: its product with an exponent is exact */
#define BC_LN2_LOW 0x1.a39ef35793c76p-33

/* x = n ln 2 + r with |r| <= ln(2) / 2: the power of two, and e^r - 1. */
typedef struct bc_exp_parts {
    double power, expm1_r;
} bc_exp_parts;

/* For -708 <= x <= 709, or NaN. */
BC_FORCE_INLINE bc_exp_parts bc_exp_split(double x) {
    const double shifted = x * 1.4426950408889634 + BC_ROUND;
    const double n = shifted - BC_ROUND;
    const double r = (x - n * BC_LN2_HIGH) - n * BC_LN2_LOW;
    /* (e^r - 1 - r) / r^2, error 2.5e-15 of e^r - 1 */
    double q = 2.761380686153829e-07;
    q = q * r + 2.762511557828763e-06;
    q = q * r + 2.4801536388690766e-05;
    q = q * r + 0.00019841208732536384;
    q = q * r + 0.0013888888905881542;
    q = q * r + 0.008333333353729397;
    q = q * r + 0.04166666666665136;
    q = q * r + 0.1666666666664829;
    q = q * r + 0.5;
    bc_exp_parts parts;
    parts.power = bc_double_of_bits((bc_bits_of_double(shifted) << 52) + ((uint64_t)1023 << 52));
    parts.expm1_r = r + r * r * q;
    return parts;
}

/* e^x; below -708, where float32 has long been 0, exactly 0; above 709 infinity. */
BC_FORCE_INLINE double bc_exp(double x) {
    const bc_exp_parts parts = bc_exp_split(bc_at_most64(bc_at_least64(x, -708.0), 709.0));
    const double y = parts.power + parts.power * parts.expm1_r;
    return bc_select(x < -708.0, 0.0, bc_select(x > 709.0, (double)INFINITY, y));
}

/* e^x - 1, relatively accurate where it is tiny. */
BC_FORCE_INLINE double bc_expm1(double x) {
    const bc_exp_parts parts = bc_exp_split(bc_at_most64(bc_at_least64(x, -708.0), 709.0));
    const double y = parts.power * parts.expm1_r + (parts.power - 1.0);
    /* A zero keeps its sign. */
    return bc_select(x == 0.0, x, bc_select(x > 709.0, (double)INFINITY, y));
}

/* log(1 + f) for 1 + f in [sqrt(1/2), sqrt(2)], by 2 artanh(s), s = f / (2 + f). */
BC_FORCE_INLINE double bc_log1p_reduced(double f) {
    const double s = f / (2.0 + f);
    const double z = s * s;
    /* (2 artanh(s) - 2 s) / s^3, error 7e-16 of the logarithm */
    double p = 0.166219470901774;
    p = p * z + 0.18140185202493248;
    p = p * z + 0.22222862476849542;
    p = p * z + 0.2857142413651635;
    p = p * z + 0.400000000112122;
    p = p * z + 0.6666666666666208;
    return 2.0 * s + s * z * p;
}

/* Natural logarithm. x must not be subnormal: here it is a float32, or a sum of one and a product of two,
 * and the smallest of these is 2^-298. */
BC_FORCE_INLINE double bc_log(double x) {
    /* Less the bits of sqrt(1/2), the exponent rolls over there, and m ends up in [sqrt(1/2), sqrt(2)). */
    const uint64_t half_root = UINT64_C(0x3fe6a09e667f3bcd);
    const uint64_t bits = bc_bits_of_double(x);
    const uint64_t biased = (bits - half_root + (UINT64_C(1023) << 52)) >> 52;
    const double m = bc_double_of_bits(bits - ((biased - 1023) << 52));
    const double two_52 = 4503599627370496.0;
    const double n = bc_double_of_bits(biased | bc_bits_of_double(two_52)) - (two_52 + 1023.0);
    double y = n * BC_LN2_HIGH + (bc_log1p_reduced(m - 1.0) + n * BC_LN2_LOW);
    y = bc_select(x == (double)INFINITY, x, y);
    y = bc_select(x == 0.0, -(double)INFINITY, y);
    return bc_select(x >= 0.0, y, (double)NAN);
}

/* log(1 + x) for 0 <= x <= 1, relatively accurate where it is tiny. */
BC_FORCE_INLINE double bc_log1p_unit(double x) {
    const double root = 0.41421356237309503;
    const double y = bc_log1p_reduced(bc_select(x > root, (x - 1.0) * 0.5, x));
    return bc_select(x > root, 0.6931471805599453, 0.0) + y;
}

/* tanh(x), relatively accurate where it is tiny. */
BC_FORCE_INLINE double bc_tanh(double x) {
    const double e = bc_expm1(2.0 * bc_at_most64(fabs(x), 22.0)); /* 1 in double from 19.1 on */
    return copysign(e / (e + 2.0), x);
}

/* The normal distribution function erfc(-x / sqrt(2)) / 2, relatively accurate in the lower tail too. */
BC_FORCE_INLINE double bc_normal_distribution(double x) {
    const double t = bc_at_most64(fabs(x), 64.0);
    /* e^(t^2 / 2) erfc(t / sqrt(2)) / 2, error 2e-14 on [0, 15]; past that x times the tail is 0. */
    double p = 3.246525852844463e-05;
    p = p * t + 0.0006626261272036691;
    p = p * t + 0.006477062358805218;
    p = p * t + 0.03873479806233919;
    p = p * t + 0.1523088284336385;
    p = p * t + 0.39479564212351204;
    p = p * t + 0.632024955242025;
    p = p * t + 0.4999999999999925;
    double q = 8.137833615072189e-05;
    q = q * t + 0.0016609572720399342;
    q = q * t + 0.016316971053246598;
    q = q * t + 0.09875455833728593;
    q = q * t + 0.39785708979749246;
    q = q * t + 1.0833406093689641;
    q = q * t + 1.9347769643299912;
    q = q * t + 2.0619344712845886;
    q = q * t + 1.0;
    const double tail = bc_exp(-0.5 * (t * t)) * (p / q);
    return bc_select(x > 0.0, 1.0 - tail, tail);
}

/* Nearest integer, ties to even, for x >= 0. */
BC_FORCE_INLINE double bc_round_positive(double x) {
    const double two_52 = 4503599627370496.0;
    return bc_select(x < two_52, (x + two_52) - two_52, x);
}

/* C's pow. x as for bc_log. */
BC_FORCE_INLINE double bc_pow(double x, double y) {
    const double magnitude = fabs(x);
    double z = bc_exp(y * bc_log(magnitude));
    z = bc_select(magnitude == 1.0, 1.0, z); /* also where y is infinite */

    /* How far y is from an even number: 1 for an odd y, 0 for an even one and for infinity. */
    const double half = bc_at_most64(fabs(y), DBL_MAX) * 0.5;
    const double distance = fabs(half - bc_round_positive(half)) * 2.0;
    const double sign = copysign(1.0, x);
    z = bc_select(distance == 1.0, sign * z, z);
    const int fractional = (distance > 0.0) & (distance < 1.0);
    const int undefined = (x < 0.0) & (magnitude < (double)INFINITY) & fractional;
    z = bc_select(undefined, (double)NAN, z);

    z = bc_select((x != x) | (y != y), x + y, z);
    return bc_select((x == 1.0) | (y == 0.0), 1.0, z);
}

#endif
