// Float32 arithmetic of IEEE 754 where WGSL promises less: no fused multiply-add, subnormal
// numbers that some drivers flush to 0, and rounding to nearest even.  Needs `params.zero`, a
// uniform that is 0.

const MAGNITUDE = 0x7fffffffu;
const SIGN = 0x80000000u;
const INFINITY_BITS = 0x7f800000u;

fn bits_of(x: f32) -> u32 {
    return bitcast<u32>(x);
}

// x itself.  The compiler does not know that the uniform is 0, so what goes through here is rounded
// on its own, neither fused with what follows nor reordered.
fn keep(x: f32) -> f32 {
    return bitcast<f32>(bits_of(x) ^ params.zero);
}

fn make(bits: u32) -> f32 {
    return bitcast<f32>(bits ^ params.zero);
}

fn is_nan(x: f32) -> bool {
    return (bits_of(x) & MAGNITUDE) > INFINITY_BITS;
}

// x < 0, also for subnormal numbers; false for -0 and NaN.
fn is_negative(x: f32) -> bool {
    let bits = bits_of(x);
    return bits > SIGN && bits <= (SIGN | INFINITY_BITS);
}

fn bit_of(x: f32) -> u32 {
    return select(1u, 0u, is_negative(x));
}

// ---- Products and sums for any operands ----------------------------------------------------------

struct Normal {
    mantissa: u32, // 2^23 <= mantissa < 2^24; the number is mantissa * 2^(exponent - 150)
    exponent: i32,
}

fn normalized(bits: u32) -> Normal {
    let exponent = i32((bits >> 23u) & 255u);
    let fraction = bits & 0x7fffffu;
    if (exponent == 0) {
        let shift = countLeadingZeros(fraction) - 8u;
        return Normal(fraction << shift, 1 - i32(shift));
    }
    return Normal(fraction | 0x800000u, exponent);
}

// value / 2^shift to the nearest even integer; `rest` says whether more follows below value.
fn round_shift(value: u32, shift: u32, rest: bool) -> u32 {
    if (shift > 32u) {
        return 0u;
    }
    let half = 1u << (shift - 1u);
    var quotient = 0u;
    var below = value;
    if (shift < 32u) {
        quotient = value >> shift;
        below = value & ((1u << shift) - 1u);
    }
    let up = below > half || (below == half && (rest || (quotient & 1u) == 1u));
    return quotient + select(0u, 1u, up);
}

// A product below 2^-125 of numbers that are not 0, by whole numbers.
fn tiny_product(a: f32, b: f32) -> f32 {
    let x = normalized(bits_of(a) & MAGNITUDE);
    let y = normalized(bits_of(b) & MAGNITUDE);
    let x1 = x.mantissa >> 12u;
    let x0 = x.mantissa & 0xfffu;
    let y1 = y.mantissa >> 12u;
    let y0 = y.mantissa & 0xfffu;
    let middle = x1 * y0 + x0 * y1;
    let low = ((middle & 0xfffu) << 12u) + x0 * y0;
    let high = x1 * y1 + (middle >> 12u) + (low >> 24u);
    let low24 = low & 0xffffffu;
    // The product is (high * 2^24 + low24) * 2^(exponents - 300), in units of 2^-149 that is shifted
    // right by 151 - exponents.
    let shift = 151 - x.exponent - y.exponent - 16;
    let top = (high << 8u) | (low24 >> 16u);
    let result = round_shift(top, u32(max(shift, 1)), (low24 & 0xffffu) != 0u);
    return make(((bits_of(a) ^ bits_of(b)) & SIGN) | result);
}

fn times_two_to_64(x: f32) -> f32 {
    let bits = bits_of(x);
    if ((bits & INFINITY_BITS) == 0u) {
        let magnitude = f32(bits & MAGNITUDE) * 0x1p-85;
        return make(bits_of(magnitude) | (bits & SIGN));
    }
    return make(bits + (64u << 23u));
}

// A sum of numbers below 2^-100, scaled up for the time of the addition.
fn tiny_sum(a: f32, b: f32) -> f32 {
    let sum = keep(times_two_to_64(a) + times_two_to_64(b));
    let bits = bits_of(sum);
    if ((bits & MAGNITUDE) >= (65u << 23u)) {
        return make(bits - (64u << 23u));
    }
    // Below 2^-126 sums are exact.
    return make((bits & SIGN) | u32(abs(sum) * 0x1p+85));
}

fn careful_product(a: f32, b: f32) -> f32 {
    let product = keep(a * b);
    let magnitude_a = bits_of(a) & MAGNITUDE;
    let magnitude_b = bits_of(b) & MAGNITUDE;
    if ((bits_of(product) & MAGNITUDE) < 0x01000000u && magnitude_a != 0u && magnitude_b != 0u) {
        return tiny_product(a, b);
    }
    return product;
}

fn careful_sum(a: f32, b: f32) -> f32 {
    let largest = max(bits_of(a) & MAGNITUDE, bits_of(b) & MAGNITUDE);
    if (largest - 1u < 0x0d800000u - 1u) {
        return tiny_sum(a, b);
    }
    return keep(a + b);
}

// ---- Other forms of numbers ----------------------------------------------------------------------

// byte / 255 rounded to nearest: in binary its digits repeat those of the byte for ever.
fn from_unorm8(byte: u32) -> f32 {
    if (byte == 0u) {
        return 0.0;
    }
    let digits = byte * 0x01010101u;
    let zeros = countLeadingZeros(digits);
    let top = (digits << zeros) | (byte >> (8u - zeros));
    return make(((125u - zeros) << 23u) + (top >> 8u) + ((top >> 7u) & 1u));
}

fn from_float16(half: u32) -> f32 {
    let sign = (half & 0x8000u) << 16u;
    let magnitude = half & 0x7fffu;
    if (magnitude >= 0x7c00u) {
        return make(sign | INFINITY_BITS | ((magnitude & 0x3ffu) << 13u));
    }
    if (magnitude >= 0x400u) {
        return make(sign | ((magnitude << 13u) + 0x38000000u));
    }
    return make(sign | bits_of(f32(magnitude) * 0x1p-24));
}

// To nearest even; overflow is infinity.
fn to_float16(x: f32) -> u32 {
    let sign = (bits_of(x) >> 16u) & 0x8000u;
    let magnitude = bits_of(x) & MAGNITUDE;
    if (magnitude > INFINITY_BITS) {
        return sign | 0x7e00u;
    }
    if (magnitude >= 0x477ff000u) {
        return sign | 0x7c00u;
    }
    if (magnitude >= 0x38800000u) {
        let rebased = magnitude - 0x38000000u;
        return sign | ((rebased + 0xfffu + ((rebased >> 13u) & 1u)) >> 13u);
    }
    if (magnitude < 0x33000000u) {
        return sign;
    }
    let mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    return sign | round_shift(mantissa, 126u - (magnitude >> 23u), false);
}
