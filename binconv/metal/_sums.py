"""The shader of the sums and the epilogue, put together for one kind of layer and destination.

Loops over registers are written out here, since WGSL has no arrays that are sure to stay in them.
"""

from __future__ import annotations

from ..enums import BinaryConvolutionType
from ._epilogue import NEEDS_FUNCTIONS, bit_words, clear, epilogue, finish, is_contiguous, store
from ._variant import Tile, Variant, shader


def source_text(variant: Variant) -> str:
    """WGSL, with the entry point main."""
    tile = variant.tile
    is_binary = variant.is_binary
    bits = variant.destination == "bits"
    workgroup = []
    if variant.beta:
        workgroup.append(f"var<workgroup> betas: array<f32, {tile.pixels}>;")
    if bits and not variant.shuffled:
        count = tile.pixels * bit_words(tile)
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
    if variant.neuron in NEEDS_FUNCTIONS:
        parts.append(shader("neurons"))
    parts += [
        _fetch(variant),
        finish(variant),
        store(variant),
        "\n".join(_main(variant)),
    ]
    return "\n".join(parts)


# ---- Reading ------------------------------------------------------------------------------------


def _fetch(variant: Variant) -> str:
    if not variant.is_binary:
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


# ---- The entry point ----------------------------------------------------------------------------


def _main(variant: Variant) -> list[str]:
    tile = variant.tile
    is_binary = variant.is_binary
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
        *clear(variant),
        *_loop(variant),
        *epilogue(variant),
        "}",
    ]


def _pairs(tile: Tile) -> list[tuple[int, int]]:
    return [(i, j) for j in range(tile.columns) for i in range(tile.rows)]


def _loads(variant: Variant, step: str, name: str) -> list[str]:
    """What the next step will want, from memory to registers."""
    tile = variant.tile
    is_binary = variant.is_binary
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
    is_binary = variant.is_binary
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


def _slot(variant: Variant, at: str) -> str:
    """Where filter `at` (of all quads of a step) lies in workgroup memory."""
    tile = variant.tile
    if not is_contiguous(variant):
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
