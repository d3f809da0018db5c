// Functions for neurons, within 4 ULP.  WGSL's own exp, tanh, pow and division are less exact, so
// they are made of sums and products here, some of them in pairs of numbers: hi + lo with
// |lo| <= ulp(hi) / 2.

struct Pair {
    hi: f32,
    lo: f32,
}

fn two_sum(a: f32, b: f32) -> Pair {
    let sum = keep(a + b);
    let part = keep(sum - a);
    return Pair(sum, keep(keep(a - keep(sum - part)) + keep(b - part)));
}

// Veltkamp's splitting and Dekker's product; without the low part where that could overflow.
fn two_product(a: f32, b: f32) -> Pair {
    let product = keep(a * b);
    if (!(abs(a) < 1e30 && abs(b) < 1e30 && abs(product) < 1e30)) {
        return Pair(product, 0.0);
    }
    let scaled_a = keep(4097.0 * a);
    let a_hi = keep(scaled_a - keep(scaled_a - a));
    let a_lo = keep(a - a_hi);
    let scaled_b = keep(4097.0 * b);
    let b_hi = keep(scaled_b - keep(scaled_b - b));
    let b_lo = keep(b - b_hi);
    let error = keep(keep(keep(a_hi * b_hi) - product) + keep(a_hi * b_lo));
    return Pair(product, keep(keep(error + keep(a_lo * b_hi)) + keep(a_lo * b_lo)));
}

fn renormalized(hi: f32, lo: f32) -> Pair {
    let sum = keep(hi + lo);
    return Pair(sum, keep(lo - keep(sum - hi)));
}

fn is_finite(x: f32) -> bool {
    return (bits_of(x) & MAGNITUDE) < INFINITY_BITS;
}

// a*x + b
fn linear(a: f32, x: f32, b: f32) -> Pair {
    let product = two_product(a, x);
    let sum = two_sum(product.hi, b);
    if (!is_finite(sum.hi)) {
        return Pair(sum.hi, 0.0);
    }
    return renormalized(sum.hi, keep(sum.lo + product.lo));
}

fn pair_product(a: Pair, b: Pair) -> Pair {
    let product = two_product(a.hi, b.hi);
    if (!is_finite(product.hi)) {
        return Pair(product.hi, 0.0);
    }
    let cross = keep(keep(a.hi * b.lo) + keep(a.lo * b.hi));
    return renormalized(product.hi, keep(product.lo + cross));
}

// a / b for operands of modest size, nearly correctly rounded.
fn quotient(a: f32, b: f32) -> f32 {
    let q = keep(a / b);
    let product = two_product(q, b);
    let rest = keep(keep(a - product.hi) - product.lo);
    return keep(q + keep(rest / b));
}

// m * 2^n for a positive, normal m.
fn scaled(m: f32, n: i32) -> f32 {
    let bits = bits_of(m);
    let exponent = i32(bits >> 23u) + n;
    if (exponent >= 255) {
        return make(INFINITY_BITS);
    }
    if (exponent > 0) {
        return make((bits & 0x7fffffu) | (u32(exponent) << 23u));
    }
    return make(round_shift((bits & 0x7fffffu) | 0x800000u, u32(1 - exponent), false));
}

struct Reduced {
    n: f32,
    r: f32, // x = n * log 2 + r
    power: f32, // e^r - 1 - r
}

fn reduced(x: f32, low: f32) -> Reduced {
    let n = round(x * 1.44269504);
    let r = keep(keep(keep(x - keep(n * 0.693359375)) - keep(n * -2.12194440e-4)) + low);
    var p = 1.9875691500e-4;
    p = p * r + 1.3981999507e-3;
    p = p * r + 8.3334519073e-3;
    p = p * r + 4.1665795894e-2;
    p = p * r + 1.6666665459e-1;
    p = p * r + 5.0000001201e-1;
    return Reduced(n, r, keep(p * r) * r);
}

// e^(hi + lo)
fn exponential(x: Pair) -> f32 {
    if (is_nan(x.hi)) {
        return x.hi;
    }
    if (x.hi > 89.0) {
        return make(INFINITY_BITS);
    }
    if (x.hi < -104.0) {
        return 0.0;
    }
    let parts = reduced(x.hi, x.lo);
    return scaled(keep(parts.power + parts.r) + 1.0, i32(parts.n));
}

// e^x - 1, for x <= 0.
fn exponential_less_1(x: f32) -> f32 {
    if (is_nan(x)) {
        return x;
    }
    if (x < -17.5) {
        return -1.0;
    }
    let parts = reduced(x, 0.0);
    let power = scaled(1.0, i32(parts.n));
    return keep(keep(parts.power + parts.r) * power) + (power - 1.0);
}

// The natural logarithm of a positive, finite pair, to about 2^-34 of itself.
fn logarithm(x: Pair) -> Pair {
    var hi = x.hi;
    var lo = x.lo;
    var k = 0;
    if ((bits_of(hi) & INFINITY_BITS) == 0u) {
        hi = times_two_to_64(hi);
        lo = 0.0;
        k = -64;
    }
    // hi = m * 2^e with m from sqrt(1/2) to sqrt(2)
    let shifted = bits_of(hi) + (0x3f800000u - 0x3f3504f3u);
    let e = i32(shifted >> 23u) - 127;
    k += e;
    let m = make((shifted & 0x7fffffu) + 0x3f3504f3u);
    let f = two_sum(m - 1.0, keep(lo * scaled(1.0, -e)));
    // s = f / (2 + f), log m = 2 s + 2 s^3 / 3 + 2 s^5 / 5 + ...
    let d = two_sum(2.0, f.hi);
    let d_lo = keep(d.lo + f.lo);
    let s_hi = keep(f.hi / d.hi);
    let back = two_product(s_hi, d.hi);
    let rest = keep(keep(keep(keep(f.hi - back.hi) - back.lo) + f.lo) - keep(s_hi * d_lo));
    let s = renormalized(s_hi, keep(rest / d.hi));
    let t = pair_product(s, s);
    var q = 1.0 / 13.0;
    q = q * t.hi + 1.0 / 11.0;
    q = q * t.hi + 1.0 / 9.0;
    q = q * t.hi + 1.0 / 7.0;
    q = q * t.hi + 1.0 / 5.0;
    let third = two_sum(0.333333343, keep(q * t.hi));
    let series = pair_product(pair_product(s, t), Pair(third.hi, keep(third.lo - 9.93410746e-9)));
    let log_m = two_sum(2.0 * s.hi, 2.0 * series.hi);
    let log_m_lo = keep(log_m.lo + keep(2.0 * s.lo + 2.0 * series.lo));
    let whole = two_product(f32(k), -2.12194440e-4);
    let top = two_sum(keep(f32(k) * 0.693359375), log_m.hi);
    let next = two_sum(top.hi, whole.hi);
    let low = keep(keep(keep(top.lo + next.lo) + keep(whole.lo + log_m_lo)) + f32(k) * 1.64659496e-12);
    return renormalized(next.hi, low);
}

// log(1 + u) for u from 0 to 1.
fn logarithm_of_1_plus(u: f32) -> f32 {
    if (u < 0x1p-30) {
        return u;
    }
    return logarithm(two_sum(1.0, u)).hi;
}

fn error_function(x: f32) -> f32 {
    let t = abs(x);
    let s = x * x;
    if (is_nan(x)) {
        return x;
    }
    if (t > 4.0) {
        return sign(x);
    }
    if (t > 0.927734375) {
        var r = -1.72853470e-5 * t + 3.83197126e-4;
        r = r * s + (-3.88396438e-3 * t + 2.42546219e-2);
        r = r * t + -1.06777877e-1;
        r = r * t + -6.34846687e-1;
        r = r * t + -1.28717512e-1;
        r = r * t - t;
        return sign(x) * (1.0 - exponential(Pair(r, 0.0)));
    }
    var r = -5.96761703e-4;
    r = r * s + 4.99119423e-3;
    r = r * s + -2.67681349e-2;
    r = r * s + 1.12819925e-1;
    r = r * s + -3.76125336e-1;
    r = r * s + 1.28379166e-1;
    return r * x + x;
}

fn hyperbolic_tangent(x: f32) -> f32 {
    let t = abs(x);
    if (is_nan(x)) {
        return x;
    }
    if (t > 9.1) {
        return sign(x);
    }
    if (t < 0.625) {
        let s = x * x;
        var p = -5.70498872745e-3;
        p = p * s + 2.06390887954e-2;
        p = p * s + -5.37397155531e-2;
        p = p * s + 1.33314422036e-1;
        p = p * s + -3.33332819422e-1;
        if (t < 0x1p-40) {
            return x;
        }
        return keep(keep(p * s) * x) + x;
    }
    let power = exponential(Pair(2.0 * t, 0.0));
    return sign(x) * (1.0 - quotient(2.0, power + 1.0));
}

fn sigmoid(x: f32) -> f32 {
    let power = exponential(Pair(-abs(x), 0.0));
    if (!is_negative(x)) {
        return quotient(1.0, 1.0 + power);
    }
    if ((bits_of(power) & MAGNITUDE) < 0x0d800000u) {
        return power;
    }
    return quotient(power, 1.0 + power);
}

// log(1 + e^z)
fn soft_plus(z: Pair) -> f32 {
    if (is_nan(z.hi)) {
        return z.hi;
    }
    if (z.hi > 0.0) {
        return z.hi + (z.lo + logarithm_of_1_plus(exponential(Pair(-z.hi, -z.lo))));
    }
    let power = exponential(z);
    if ((bits_of(power) & MAGNITUDE) < 0x30800000u) {
        return power;
    }
    return logarithm_of_1_plus(power);
}

fn soft_sign(x: f32) -> f32 {
    if ((bits_of(x) & MAGNITUDE) < 0x30800000u) {
        return x;
    }
    return quotient(x, 1.0 + abs(x));
}

// base^exponent, with what is known of the exponent: bit 0, it is whole; bit 1, it is odd.
fn power(base: Pair, exponent: f32, whole: u32) -> f32 {
    if (exponent == 0.0) {
        return 1.0;
    }
    if (is_nan(base.hi)) {
        return base.hi;
    }
    let negative = (bits_of(base.hi) & SIGN) != 0u;
    let flip = select(0u, SIGN, negative && (whole & 2u) != 0u);
    let magnitude = bits_of(base.hi) & MAGNITUDE;
    if (magnitude == 0u || magnitude == INFINITY_BITS) {
        return make(flip | select(0u, INFINITY_BITS, (magnitude == 0u) == (exponent < 0.0)));
    }
    if (negative && (whole & 1u) == 0u) {
        return make(0x7fc00000u);
    }
    let log = logarithm(Pair(abs(base.hi), select(base.lo, -base.lo, negative)));
    return make(flip | bits_of(exponential(pair_product(log, Pair(exponent, 0.0)))));
}

// base^exponent, with log(|base|) as a pair.
fn exponential_of_base(base: f32, log: Pair, exponent: Pair) -> f32 {
    if (base == 1.0) {
        return 1.0;
    }
    if (is_nan(exponent.hi)) {
        return exponent.hi;
    }
    if (exponent.hi == 0.0) {
        return 1.0;
    }
    if (base == 0.0) {
        return select(0.0, make(INFINITY_BITS), exponent.hi < 0.0);
    }
    var flip = 0u;
    if (base < 0.0 && is_finite(exponent.hi)) {
        if (floor(exponent.hi) != exponent.hi || exponent.lo != 0.0) {
            return make(0x7fc00000u);
        }
        if (abs(exponent.hi) < 16777216.0 && (i32(exponent.hi) & 1) != 0) {
            flip = SIGN;
        }
    }
    return make(flip | bits_of(exponential(pair_product(log, exponent))));
}

// The logarithm of x times `factor`, 1 / log(base) as a pair.
fn logarithm_of_base(x: Pair, factor: Pair) -> f32 {
    if (is_nan(x.hi)) {
        return x.hi;
    }
    if (is_negative(x.hi)) {
        return make(0x7fc00000u);
    }
    let magnitude = bits_of(x.hi) & MAGNITUDE;
    if (magnitude == 0u || magnitude == INFINITY_BITS) {
        return make(INFINITY_BITS | select(0u, SIGN, magnitude == 0u)) * factor.hi;
    }
    let log = logarithm(x);
    if (!is_finite(factor.hi) || factor.hi == 0.0) {
        return log.hi * factor.hi;
    }
    return pair_product(log, factor).hi;
}
