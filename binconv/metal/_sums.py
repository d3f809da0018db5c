"""The shader of the sums and the epilogue, put together for one kind of layer and destination.

Loops over registers are written out here, since WGSL has no arrays that are sure to stay in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from ..enums import BinaryConvolutionType, NeuronType


@dataclass(frozen=True)
class Tile:
    """How a workgroup shares its tile: lanes_y x lanes_x invocations with rows x columns sums."""

    lanes_x: int
    lanes_y: int
    rows: int
    columns: int

    @property
    def invocations(self) -> int:
        return self.lanes_x * self.lanes_y

    @property
    def pixels(self) -> int:
        return self.lanes_y * self.rows

    @property
    def filters(self) -> int:
        return self.lanes_x * self.columns


# 32 sums an invocation leave registers for four workgroups on an NVIDIA multiprocessor.
LARGE = Tile(lanes_x=16, lanes_y=8, rows=8, columns=4)
# For few filters: groups, depthwise layers.
SMALL = Tile(lanes_x=4, lanes_y=16, rows=2, columns=4)


@dataclass(frozen=True)
class Variant:
    """All that a shader depends on."""

    type: BinaryConvolutionType
    tile: Tile
    quads: int  # of a step
    neuron: NeuronType
    destination: str  # "float32", "float16" or "bits"
    beta: bool
    excludes: bool  # XNOR with taps that are left out
    careful: bool  # terms so small that products may be subnormal
    pack_terms: bool
    shuffled: bool  # sub-pixel
    # (elements of a tap, kernel width) where they are built in, for taps of whole quads
    fixed: tuple[int, int] | None


def shader(name: str) -> str:
    """The text of a file of shaders/."""
    return (files(__package__) / "shaders" / f"{name}.wgsl").read_text("utf-8")


def source_text(variant: Variant) -> str:
    """WGSL, with the entry point main."""
    tile = variant.tile
    is_binary = variant.type != BinaryConvolutionType.BINARY_WEIGHTS
    bits = variant.destination == "bits"
    workgroup = []
    if variant.beta:
        workgroup.append(f"var<workgroup> betas: array<f32, {tile.pixels}>;")
    if bits and not variant.shuffled:
        count = tile.pixels * _bit_words(tile)
        workgroup.append(f"var<workgroup> result_bits: array<atomic<u32>, {count}>;")
    names = {
        "$BM": tile.pixels,
        "$BN": tile.filters,
        "$BQ": variant.quads,
        "$TM": tile.rows,
        "$TN": tile.columns,
        "$SOURCE": "u32" if is_binary else "f32",
        "$WEIGHTS": "vec4<u32>" if is_binary else "u32",
        "$DESTINATION": "f32" if variant.destination == "float32" else "atomic<u32>",
        "$QUAD": "vec4<u32>" if is_binary else "vec4<f32>",
        "$FILTER": "vec4<u32>" if is_binary else "u32",
        "$PIXEL_TILE": tile.pixels * variant.quads,
        "$FILTER_TILE": tile.filters * (variant.quads if is_binary else 1),
        "$MAGNITUDES_BINDING": "@group(0) @binding(7) var<storage, read> magnitudes: array<f32>;"
        if variant.beta
        else "",
        "$WORKGROUP_VARIABLES": "\n".join(workgroup),
    }
    head = shader("sums")
    for name in sorted(names, key=len, reverse=True):
        head = head.replace(name, str(names[name]))
    parts = [head, shader("numbers")]
    if variant.neuron in _NEEDS_FUNCTIONS:
        parts.append(shader("neurons"))
    parts += [
        _fetch(variant),
        _finish(variant),
        _store(variant),
        "\n".join(_main(variant)),
    ]
    return "\n".join(parts)


def _bit_words(tile: Tile) -> int:
    """Words that a tile's filters of one pixel may touch."""
    return -(-tile.filters // 32) + 1


# ---- Reading ------------------------------------------------------------------------------------


def _fetch(variant: Variant) -> str:
    if variant.type == BinaryConvolutionType.BINARY_WEIGHTS:
        return _FETCH_VALUES
    if variant.type == BinaryConvolutionType.XNOR:
        # The inner step wants the first word of a pair and the difference of both.
        order = "vec4<u32>(a, a ^ b, c, c ^ d)"
    else:
        order = "vec4<u32>(a, b, c, d)"
    if variant.fixed is None:
        return _FETCH_WORDS.replace("$ORDER", order)
    words, kernel_width = variant.fixed
    return (
        _FETCH_QUADS.replace("$ORDER", order)
        .replace("$WORDS", str(words))
        .replace("$KERNEL_WIDTH", str(kernel_width))
    )


_FETCH_WORDS = """
fn word_of(place: Place, group: u32, k: u32) -> u32 {
    let tap = k / params.group_elements;
    let word = k - tap * params.group_elements;
    let i = tap / params.kernel_width;
    if (i >= params.kernel_height) {
        return 0u;
    }
    let pixel = source_pixel(place, i, tap - i * params.kernel_width);
    let at = group * params.group_elements + word;
    if (pixel < 0) {
        return edges[at];
    }
    return source[u32(pixel) * params.source_stride + params.source_offset + at];
}

fn fetch(place: Place, group: u32, quad: u32) -> vec4<u32> {
    let a = word_of(place, group, 4u * quad);
    let b = word_of(place, group, 4u * quad + 1u);
    let c = word_of(place, group, 4u * quad + 2u);
    let d = word_of(place, group, 4u * quad + 3u);
    return $ORDER;
}
"""

# A quad lies within one tap.
_FETCH_QUADS = """
fn fetch(place: Place, group: u32, quad: u32) -> vec4<u32> {
    let tap = (4u * quad) / $WORDSu;
    let i = tap / $KERNEL_WIDTHu;
    if (i >= params.kernel_height) {
        return vec4<u32>();
    }
    let pixel = source_pixel(place, i, tap - i * $KERNEL_WIDTHu);
    var at = group * $WORDSu + 4u * quad - tap * $WORDSu;
    if (pixel < 0) {
        let a = edges[at];
        let b = edges[at + 1u];
        let c = edges[at + 2u];
        let d = edges[at + 3u];
        return $ORDER;
    }
    at += u32(pixel) * params.source_stride + params.source_offset;
    let a = source[at];
    let b = source[at + 1u];
    let c = source[at + 2u];
    let d = source[at + 3u];
    return $ORDER;
}
"""

_FETCH_VALUES = """
// 4 of the values that word `step` of the weights is for.
fn fetch(place: Place, group: u32, step: u32, quad: u32) -> vec4<f32> {
    let tap = step / params.tap_words;
    let first = (step - tap * params.tap_words) * 32u + 4u * quad;
    let i = tap / params.kernel_width;
    var values = vec4<f32>();
    if (i >= params.kernel_height || first >= params.group_elements) {
        return values;
    }
    let pixel = source_pixel(place, i, tap - i * params.kernel_width);
    let at = group * params.group_elements + first;
    let count = params.group_elements - first;
    if (pixel < 0) {
        values.x = edges[at];
        if (count > 1u) { values.y = edges[at + 1u]; }
        if (count > 2u) { values.z = edges[at + 2u]; }
        if (count > 3u) { values.w = edges[at + 3u]; }
        return values;
    }
    let start = u32(pixel) * params.source_stride + params.source_offset + at;
    values.x = source[start];
    if (count > 1u) { values.y = source[start + 1u]; }
    if (count > 2u) { values.z = source[start + 2u]; }
    if (count > 3u) { values.w = source[start + 3u]; }
    return values;
}
"""


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
_NEEDS_FUNCTIONS = frozenset(
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


def _finish(variant: Variant) -> str:
    """neuron((S * scale) * beta + bias), each operation rounded on its own."""
    careful = variant.careful or variant.neuron in _NEEDS_FUNCTIONS
    product, total = ("careful_product", "careful_sum") if careful else ("keep(a * b)", "keep")
    if careful:
        text = [
            f"fn product(a: f32, b: f32) -> f32 {{ return {product}(a, b); }}",
            f"fn sum(a: f32, b: f32) -> f32 {{ return {total}(a, b); }}",
        ]
    else:
        text = [
            "fn product(a: f32, b: f32) -> f32 { return keep(a * b); }",
            "fn sum(a: f32, b: f32) -> f32 { return keep(a + b); }",
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


# ---- Writing ------------------------------------------------------------------------------------

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


def _store(variant: Variant) -> str:
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


# ---- The entry point ----------------------------------------------------------------------------


def _main(variant: Variant) -> list[str]:
    tile = variant.tile
    is_binary = variant.type != BinaryConvolutionType.BINARY_WEIGHTS
    zero = "0u" if is_binary else "0.0"
    return [
        f"@compute @workgroup_size({tile.invocations})",
        "fn main(",
        "    @builtin(workgroup_id) workgroup: vec3<u32>,",
        "    @builtin(local_invocation_index) local: u32,",
        ") {",
        "let block = workgroup.x + workgroup.y * params.row;",
        "if (block >= params.blocks) { return; }",
        "let tile_of_group = block % params.filter_tiles;",
        "let group = (block / params.filter_tiles) % params.groups;",
        f"let first_pixel = block / (params.filter_tiles * params.groups) * {tile.pixels}u;",
        f"let first_filter = tile_of_group * {tile.filters}u;",
        f"let lane_x = local % {tile.lanes_x}u;",
        f"let lane_y = local / {tile.lanes_x}u;",
        f"let own = place_of(min(first_pixel + local % {tile.pixels}u, params.pixels - 1u));",
        f"let weights_at = (group * params.filter_tiles + tile_of_group) * params.steps"
        f" * {tile.filters * (variant.quads if is_binary else 1)}u;",
        *(f"var sum_{i}_{j} = {zero};" for i, j in _pairs(tile)),
        *(f"var ones_{i}_{j} = 0u;" for i, j in _pairs(tile) if is_binary),
        *_clear(variant),
        *_loop(variant),
        *_epilogue(variant),
        "}",
    ]


def _clear(variant: Variant) -> list[str]:
    """Lavapipe was seen to leave workgroup memory as it was, which WGSL says is zero."""
    if variant.destination != "bits" or variant.shuffled:
        return []
    tile = variant.tile
    return [
        f"for (var at = local; at < {tile.pixels * _bit_words(tile)}u; "
        f"at += {tile.invocations}u) {{ atomicStore(&result_bits[at], 0u); }}"
    ]


def _pairs(tile: Tile) -> list[tuple[int, int]]:
    return [(i, j) for j in range(tile.columns) for i in range(tile.rows)]


def _loads(variant: Variant, step: str, name: str) -> list[str]:
    """What the next step will want, from memory to registers."""
    tile = variant.tile
    is_binary = variant.type != BinaryConvolutionType.BINARY_WEIGHTS
    lines = []
    each = tile.invocations // tile.pixels
    for n in range(-(-variant.quads // each)):
        quad = f"local / {tile.pixels}u + {n * each}u"
        if is_binary:
            lines.append(f"{name}_a{n} = fetch(own, group, {step} * {variant.quads}u + {quad});")
        else:
            lines.append(f"{name}_a{n} = fetch(own, group, {step}, {quad});")
    count = tile.filters * (variant.quads if is_binary else 1)
    for n in range(-(-count // tile.invocations)):
        at = f"local + {n * tile.invocations}u"
        load = f"{name}_b{n} = weights[weights_at + {step} * {count}u + {at}];"
        if (n + 1) * tile.invocations > count:
            load = f"if ({at} < {count}u) {{ {load} }}"
        lines.append(load)
    return lines


def _loop(variant: Variant) -> list[str]:
    tile = variant.tile
    is_binary = variant.type != BinaryConvolutionType.BINARY_WEIGHTS
    each = tile.invocations // tile.pixels
    passes_a = -(-variant.quads // each)
    count = tile.filters * (variant.quads if is_binary else 1)
    passes_b = -(-count // tile.invocations)
    quad, word = ("vec4<u32>", "vec4<u32>") if is_binary else ("vec4<f32>", "u32")
    lines = [f"var next_a{n}: {quad};" for n in range(passes_a)]
    lines += [f"var next_b{n}: {word};" for n in range(passes_b)]
    lines += _loads(variant, "0u", "next")
    lines.append("for (var step = 0u; step < params.steps; step++) {")
    lines.append("workgroupBarrier();")
    for n in range(passes_a):
        quad_at = f"(local / {tile.pixels}u + {n * each}u)"
        put = f"pixel_tile[{quad_at} * {tile.pixels}u + local % {tile.pixels}u] = next_a{n};"
        if (n + 1) * each > variant.quads:
            put = f"if ({quad_at} < {variant.quads}u) {{ {put} }}"
        lines.append(put)
    for n in range(passes_b):
        at = f"local + {n * tile.invocations}u"
        put = f"filter_tile[{_slot(variant, at)}] = next_b{n};"
        if (n + 1) * tile.invocations > count:
            put = f"if ({at} < {count}u) {{ {put} }}"
        lines.append(put)
    lines.append("workgroupBarrier();")
    lines.append("if (step + 1u < params.steps) {")
    lines += _loads(variant, "(step + 1u)", "next")
    lines.append("}")
    lines += _compute_words(variant) if is_binary else _compute_values(variant)
    lines.append("}")
    return lines


def _is_contiguous(variant: Variant) -> bool:
    """Whether an invocation's filters are neighbours, so that it can join their results; else they
    are apart, so that neighbouring invocations write neighbouring numbers.
    """
    return variant.destination != "float32"


def _slot(variant: Variant, at: str) -> str:
    """Where filter `at` (of all quads of a step) lies in workgroup memory."""
    tile = variant.tile
    if not _is_contiguous(variant):
        return at
    n, c = tile.filters, tile.columns
    return f"({at}) / {n}u * {n}u + ({at}) % {c}u * {tile.lanes_x}u + ({at}) % {n}u / {c}u"


def _compute_words(variant: Variant) -> list[str]:
    """Carry-save addition: of two words and the ones so far, the carries alone are counted."""
    tile = variant.tile
    lines = [f"for (var q = 0u; q < {variant.quads}u; q++) {{"]
    for i in range(tile.rows):
        lines.append(f"let a{i} = pixel_tile[q * {tile.pixels}u + lane_y + {i * tile.lanes_y}u];")
    for j in range(tile.columns):
        lines.append(f"let b{j} = filter_tile[q * {tile.filters}u + lane_x + {j * tile.lanes_x}u];")
        for i in range(tile.rows):
            ones = f"ones_{i}_{j}"
            lines.append("{")
            for n, (low, high) in enumerate((("x", "y"), ("z", "w"))):
                if variant.type == BinaryConvolutionType.XNOR:
                    lines += [
                        f"let s{n} = {ones} ^ a{i}.{high} ^ b{j}.{high};",
                        f"let t{n} = a{i}.{low} ^ b{j}.{low};",
                        f"let d{n} = {ones} ^ s{n};",
                        f"let c{n} = countOneBits((d{n} & {ones}) | (~d{n} & t{n}));",
                    ]
                else:
                    lines += [
                        f"let t{n} = a{i}.{low} & b{j}.{low};",
                        f"let u{n} = a{i}.{high} & b{j}.{high};",
                        f"let s{n} = {ones} ^ t{n} ^ u{n};",
                        f"let c{n} = countOneBits((t{n} & u{n}) | ({ones} & (t{n} | u{n})));",
                    ]
                lines.append(f"{ones} = s{n};")
            lines.append(f"sum_{i}_{j} += c0 + c1;")
            lines.append("}")
    lines.append("}")
    return lines


def _compute_values(variant: Variant) -> list[str]:
    """Values times +1 or -1, added in fours."""
    tile = variant.tile
    lines = [f"let w{j} = filter_tile[lane_x + {j * tile.lanes_x}u];" for j in range(tile.columns)]
    lines.append(f"for (var q = 0u; q < {variant.quads}u; q++) {{")
    for i in range(tile.rows):
        lines.append(f"let a{i} = pixel_tile[q * {tile.pixels}u + lane_y + {i * tile.lanes_y}u];")
    for j in range(tile.columns):
        lines.append(
            f"let f{j} = vec4<f32>((vec4<u32>(w{j}) >> (vec4<u32>(0u, 1u, 2u, 3u) + 4u * q))"
            " & vec4<u32>(1u)) * 2.0 - 1.0;"
        )
        for i in range(tile.rows):
            lines.append(
                f"sum_{i}_{j} += (a{i}.x * f{j}.x + a{i}.y * f{j}.y)"
                f" + (a{i}.z * f{j}.z + a{i}.w * f{j}.w);"
            )
    lines.append("}")
    return lines


def _epilogue(variant: Variant) -> list[str]:
    tile = variant.tile
    lines = []
    if variant.beta:
        lines += [_BETAS.replace("$PIXELS", str(tile.pixels)), "workgroupBarrier();"]
    contiguous = _is_contiguous(variant)
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
            _WRITE_BITS.replace("$WORDS", str(_bit_words(tile)))
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
    if variant.type != BinaryConvolutionType.BINARY_WEIGHTS:
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
        if variant.type == BinaryConvolutionType.BINARY_WEIGHTS:
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
            _JOIN_BITS.replace("$WORDS", str(_bit_words(tile))).replace(
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
