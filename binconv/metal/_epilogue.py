"""The end of the shader of the sums: what follows them in registers, and how it is written."""

from __future__ import annotations

from ..enums import BinaryConvolutionType, NeuronType
from ._variant import Tile, Variant

# ---- The epilogue -------------------------------------------------------------------------------

_LEAKY = "select(x, product(slope, x), is_negative(x))"
_NEURONS = {
    NeuronType.NONE: "x",
    NeuronType.RELU: _LEAKY,
    NeuronType.LINEAR: "sum(product(params.neuron_a, x), params.neuron_b)",
    NeuronType.SIGMOID: "sigmoid(x)",
    NeuronType.HARD_SIGMOID: "unit(sum(product(params.neuron_a, x), params.neuron_b))",
    NeuronType.TANH: "product(params.neuron_a, hyperbolic_tangent(product(params.neuron_b, x)))",
    NeuronType.ABSOLUTE: "make(bits_of(x) & MAGNITUDE)",
    NeuronType.SOFT_PLUS: "product(params.neuron_a, soft_plus(two_product(params.neuron_b, x)))",
    NeuronType.SOFT_SIGN: "soft_sign(x)",
    NeuronType.ELU: "elu(x)",
    NeuronType.PRELU: _LEAKY,
    NeuronType.RELUN: f"at_most({_LEAKY}, params.neuron_b)",
    NeuronType.POWER: "power(linear(params.neuron_a, x, params.neuron_b), params.neuron_c, "
    "params.neuron_whole)",
    NeuronType.EXPONENTIAL: "exponential_of_base(params.neuron_c, logarithm_of_c(), "
    "linear(params.neuron_a, x, params.neuron_b))",
    NeuronType.LOGARITHM: "logarithm_of_base(linear(params.neuron_a, x, params.neuron_b), "
    "logarithm_of_c())",
    NeuronType.GELU: "product(0.5 * x, 1.0 + error_function(x * 0.707106781))",
}
NEEDS_FUNCTIONS = frozenset(
    {
        NeuronType.SIGMOID,
        NeuronType.TANH,
        NeuronType.SOFT_PLUS,
        NeuronType.SOFT_SIGN,
        NeuronType.ELU,
        NeuronType.POWER,
        NeuronType.EXPONENTIAL,
        NeuronType.LOGARITHM,
        NeuronType.GELU,
    }
)
_HELPERS = {
    NeuronType.HARD_SIGMOID: """
fn unit(x: f32) -> f32 {
    if (is_nan(x)) {
        return x;
    }
    return clamp(x, 0.0, 1.0);
}
""",
    NeuronType.RELUN: """
fn at_most(x: f32, limit: f32) -> f32 {
    return select(x, limit, x > limit);
}
""",
    NeuronType.ELU: """
fn elu(x: f32) -> f32 {
    if (is_negative(x)) {
        return product(params.neuron_a, exponential_less_1(x));
    }
    return x;
}
""",
}
_LOGARITHM_OF_C = """
fn logarithm_of_c() -> Pair {
    return Pair(params.neuron_log_hi, params.neuron_log_lo);
}
"""


def finish(variant: Variant) -> str:
    """neuron((S * scale) * beta + bias), each operation rounded on its own."""
    careful = variant.careful or variant.neuron in NEEDS_FUNCTIONS
    product = "careful_product(a, b)" if careful else "keep(a * b)"
    total = "careful_sum(a, b)" if careful else "keep(a + b)"
    text = [
        f"fn product(a: f32, b: f32) -> f32 {{ return {product}; }}",
        f"fn sum(a: f32, b: f32) -> f32 {{ return {total}; }}",
    ]
    text.append(_HELPERS.get(variant.neuron, ""))
    if variant.neuron in (NeuronType.EXPONENTIAL, NeuronType.LOGARITHM):
        text.append(_LOGARITHM_OF_C)
    beta = "    x = product(x, beta);\n" if variant.beta else ""
    text.append(
        "fn finish(s: f32, scale: f32, bias: f32, slope: f32, beta: f32) -> f32 {\n"
        "    var x = product(s, scale);\n"
        f"{beta}"
        "    x = sum(x, bias);\n"
        f"    return {_NEURONS[variant.neuron]};\n"
        "}\n"
    )
    return "\n".join(text)


# ---- One result -------------------------------------------------------------------------------

_PLACE_IN_DESTINATION = """
struct Target {
    pixel: u32, // of the destination
    inside: bool,
}

// Where output channel `o` of a place goes.
fn target_of(place: Place, o: u32) -> Target {
    $BLOCK
    let pixel = ((params.destination_first + place.image) * params.destination_height
        + params.clip_y + y) * params.destination_width + params.clip_x + x;
    return Target(pixel, y < params.clip_height && x < params.clip_width);
}

fn channel_of(o: u32) -> u32 {
    return params.channel_offset + $CHANNEL;
}
"""
_STORE = {
    "float32": """
fn store(place: Place, o: u32, value: f32) {
    let there = target_of(place, o);
    if (there.inside) {
        destination[there.pixel * params.destination_channels + channel_of(o)] = value;
    }
}
""",
    "float16": """
fn store(place: Place, o: u32, value: f32) {
    let there = target_of(place, o);
    if (there.inside) {
        let at = there.pixel * params.destination_channels + channel_of(o);
        let shift = (at & 1u) * 16u;
        atomicAnd(&destination[at >> 1u], ~(0xffffu << shift));
        atomicOr(&destination[at >> 1u], to_float16(value) << shift);
    }
}

fn store_pair(place: Place, o: u32, first: f32, second: f32) {
    let there = target_of(place, o);
    if (there.inside) {
        let at = there.pixel * params.destination_channels + channel_of(o);
        atomicStore(&destination[at >> 1u], to_float16(first) | (to_float16(second) << 16u));
    }
}
""",
    "bits": """
fn store(place: Place, o: u32, bit: u32) {
    let there = target_of(place, o);
    if (there.inside) {
        let c = channel_of(o);
        let at = there.pixel * params.destination_words + (c >> 5u);
        if (bit == 0u) {
            atomicAnd(&destination[at], ~(1u << (c & 31u)));
        } else {
            atomicOr(&destination[at], 1u << (c & 31u));
        }
    }
}
""",
}


def store(variant: Variant) -> str:
    if variant.shuffled:
        block = (
            "let block = o / params.subpixel_channels;\n"
            "    let y = place.y * params.subpixel + block / params.subpixel;\n"
            "    let x = place.x * params.subpixel + block % params.subpixel;"
        )
        channel = "o % params.subpixel_channels"
    else:
        block, channel = "let y = place.y;\n    let x = place.x;", "o"
    place = _PLACE_IN_DESTINATION.replace("$BLOCK", block).replace("$CHANNEL", channel)
    return place + _STORE[variant.destination]


# ---- All results of an invocation ---------------------------------------------------------------


def bit_words(tile: Tile) -> int:
    """Words that a tile's filters of one pixel may touch."""
    return -(-tile.filters // 32) + 1


def is_contiguous(variant: Variant) -> bool:
    """Whether an invocation's filters are neighbours, so that it can join their results; else they
    are apart, so that neighbouring invocations write neighbouring numbers.
    """
    return variant.destination != "float32"


def clear(variant: Variant) -> list[str]:
    """Lavapipe was seen to leave workgroup memory as it was, which WGSL says is zero."""
    if variant.destination != "bits" or variant.shuffled:
        return []
    tile = variant.tile
    return [
        f"for (var at = local; at < {tile.pixels * bit_words(tile)}u; "
        f"at += {tile.invocations}u) {{ atomicStore(&result_bits[at], 0u); }}"
    ]


def epilogue(variant: Variant) -> list[str]:
    tile = variant.tile
    lines = []
    if variant.beta:
        lines += [_BETAS.replace("$PIXELS", str(tile.pixels)), "workgroupBarrier();"]
    contiguous = is_contiguous(variant)
    for j in range(tile.columns):
        filter_ = (
            f"lane_x * {tile.columns}u + {j}u" if contiguous else f"lane_x + {j * tile.lanes_x}u"
        )
        lines += [
            f"let filter_{j} = first_filter + {filter_};",
            f"let kept_{j} = filter_{j} < params.group_filters;",
            f"let o_{j} = group * params.group_filters + min(filter_{j}, "
            "params.group_filters - 1u);",
            f"let scale_{j} = terms[o_{j}];",
            f"let bias_{j} = terms[params.groups * params.group_filters + o_{j}];",
            f"let slope_{j} = "
            + (
                f"terms[2u * params.groups * params.group_filters + o_{j}];"
                if variant.neuron == NeuronType.PRELU
                else "params.neuron_a;"
            ),
        ]
        if variant.pack_terms:
            for n, name in ((3, "pack_bias"), (4, "pack_scale")):
                lines.append(
                    f"let {name}_{j} = terms[{n}u * params.groups * params.group_filters + o_{j}];"
                )
    for i in range(tile.rows):
        lines += _epilogue_of_pixel(variant, i)
    if variant.destination == "bits" and not variant.shuffled:
        lines.append(
            _WRITE_BITS.replace("$WORDS", str(bit_words(tile)))
            .replace("$PIXELS", str(tile.pixels))
            .replace("$FILTERS", str(tile.filters))
            .replace("$INVOCATIONS", str(tile.invocations))
        )
    return lines


def _epilogue_of_pixel(variant: Variant, i: int) -> list[str]:
    tile = variant.tile
    lines = ["{", f"let in_tile = lane_y + {i * tile.lanes_y}u;"]
    lines.append("let pixel = first_pixel + in_tile;")
    lines.append("if (pixel < params.pixels) {")
    lines.append("let place = place_of(pixel);")
    lines.append("let beta = " + ("betas[in_tile];" if variant.beta else "1.0;"))
    if variant.is_binary:
        for j in range(tile.columns):
            lines.append(f"var count_{j} = i32(2u * sum_{i}_{j} + countOneBits(ones_{i}_{j}));")
    if variant.type == BinaryConvolutionType.XNOR:
        lines.append("var terms_read = i32(params.kernel_height * params.kernel_width);")
        if variant.excludes:
            counts = "\n".join(
                f"count_{j} -= i32(edges[params.tap_counts"
                f" + o_{j} * params.kernel_height * params.kernel_width + tap]);"
                for j in range(tile.columns)
            )
            lines.append(_EXCLUDED_TAPS.replace("$COUNTS", counts))
        lines.append("terms_read *= params.terms_of;")
    for j in range(tile.columns):
        if not variant.is_binary:
            s = f"sum_{i}_{j}"
        elif variant.type == BinaryConvolutionType.XNOR:
            s = f"f32(terms_read - 2 * count_{j})"
        else:
            s = f"f32(count_{j})"
        value = f"finish({s}, scale_{j}, bias_{j}, slope_{j}, beta)"
        if variant.destination == "bits":
            if variant.pack_terms:
                value = f"careful_product(careful_sum({value}, pack_bias_{j}), pack_scale_{j})"
            value = f"bit_of({value})"
        lines.append(f"let y_{j} = {value};")
    lines += _store_of_pixel(variant)
    lines += ["}", "}"]
    return lines


def _store_of_pixel(variant: Variant) -> list[str]:
    tile = variant.tile
    one_by_one = [f"if (kept_{j}) {{ store(place, o_{j}, y_{j}); }}" for j in range(tile.columns)]
    if variant.destination == "float16" and not variant.shuffled:
        pairs = [
            f"if (kept_{j}) {{ store_pair(place, o_{j}, y_{j}, y_{j + 1}); }}"
            for j in range(0, tile.columns, 2)
        ]
        return ["if (params.in_pairs != 0u) {", *pairs, "} else {", *one_by_one, "}"]
    if variant.destination == "bits" and not variant.shuffled:
        joined = " | ".join(f"(y_{j} << {j}u)" for j in range(tile.columns))
        return [
            f"let joined = {joined};",
            _JOIN_BITS.replace("$WORDS", str(bit_words(tile))).replace(
                "$COLUMNS", str(tile.columns)
            ),
        ]
    return one_by_one


_BETAS = """
if (local < $PIXELSu) {
    var window = 0.0;
    for (var i = 0u; i < params.kernel_height; i++) {
        var line = 0.0;
        for (var j = 0u; j < params.kernel_width; j++) {
            let pixel = source_pixel(own, i, j);
            if (pixel >= 0) {
                line += magnitudes[u32(pixel) - params.source_first * params.source_height
                    * params.source_width];
            }
        }
        window += line;
    }
    betas[local] = keep(window * params.beta_factor);
}
"""

_EXCLUDED_TAPS = """
for (var i = 0u; i < params.kernel_height; i++) {
    for (var j = 0u; j < params.kernel_width; j++) {
        if (source_pixel(place, i, j) < 0) {
            let tap = i * params.kernel_width + j;
            terms_read -= 1;
            $COUNTS
        }
    }
}
"""

# Bits are first put together in workgroup memory: word 0 of a pixel is the one with the tile's
# first channel.
_JOIN_BITS = """
let first_bit = params.channel_offset + group * params.group_filters + first_filter;
let bit = (first_bit & 31u) + lane_x * $COLUMNSu;
let at = in_tile * $WORDSu + (bit >> 5u);
atomicOr(&result_bits[at], joined << (bit & 31u));
if ((bit & 31u) + $COLUMNSu > 32u) {
    atomicOr(&result_bits[at + 1u], joined >> (32u - (bit & 31u)));
}
"""

_WRITE_BITS = """
workgroupBarrier();
let begin = params.channel_offset + group * params.group_filters + first_filter;
let end = begin + min($FILTERSu, params.group_filters - first_filter);
for (var at = local; at < $PIXELSu * $WORDSu; at += $INVOCATIONSu) {
    let pixel = first_pixel + at / $WORDSu;
    let word = (begin >> 5u) + at % $WORDSu;
    let low = max(begin, word * 32u);
    let high = min(end, word * 32u + 32u);
    if (pixel < params.pixels && low < high) {
        let there = target_of(place_of(pixel), 0u);
        if (there.inside) {
            let mask = (0xffffffffu >> (32u - (high - low))) << (low & 31u);
            let bits = atomicLoad(&result_bits[at]) & mask;
            let to = there.pixel * params.destination_words + word;
            if (mask == 0xffffffffu) {
                atomicStore(&destination[to], bits);
            } else {
                atomicAnd(&destination[to], ~mask);
                atomicOr(&destination[to], bits);
            }
        }
    }
}
"""
