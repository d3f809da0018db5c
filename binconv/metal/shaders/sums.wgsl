// The layer proper: sums over taps and channels, and all that follows them, as one product of
// matrices: pixels of the output by filters, over the words (or values) of all taps.  A workgroup
// makes a tile of $BM pixels x $BN filters; it takes $BQ quads (4 words or values) of each through
// workgroup memory at a time, and an invocation keeps $TM x $TN sums in registers.

struct Params {
    zero: u32,
    blocks: u32,              // tiles in all
    row: u32,                 // workgroups in a row of the dispatch
    filter_tiles: u32,        // of a group
    groups: u32,
    pixels: u32,              // of the output, in all images
    output_height: u32,
    output_width: u32,
    kernel_height: u32,
    kernel_width: u32,
    source_first: u32,        // image
    source_height: u32,
    source_width: u32,
    source_stride: u32,       // elements from pixel to pixel
    source_offset: u32,       // elements before the first channel
    group_filters: u32,
    group_elements: u32,      // words or values that a tap has in a group
    tap_words: u32,           // words of weights that a tap has in a group
    steps: u32,
    terms_of: i32,            // the largest sum, for XNOR: terms of one tap
    tap_counts: u32,          // where they begin in edges
    destination_first: u32,   // image
    destination_height: u32,
    destination_width: u32,
    destination_channels: u32,
    destination_words: u32,   // of a pixel, for bits
    channel_offset: u32,
    clip_y: u32,
    clip_x: u32,
    clip_height: u32,
    clip_width: u32,
    subpixel: u32,
    subpixel_channels: u32,   // destination channels of the layer
    in_pairs: u32,            // float16: two neighbours always share a word
    beta_factor: f32,         // 1 / (channels * taps)
    neuron_a: f32,
    neuron_b: f32,
    neuron_c: f32,
    neuron_whole: u32,
    neuron_log_hi: f32,
    neuron_log_lo: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<$SOURCE>;
@group(0) @binding(2) var<storage, read> weights: array<$WEIGHTS>;
// scale, bias, PRELU's a, and the bias and scale of the bits that are made, for each filter.
@group(0) @binding(3) var<storage, read> terms: array<f32>;
// Rows of the source for each output row and tap, then columns likewise; -1 for none.
@group(0) @binding(4) var<storage, read> positions: array<i32>;
// What a tap off the source reads in each group, and the set bits of each filter's taps.
@group(0) @binding(5) var<storage, read> edges: array<$SOURCE>;
@group(0) @binding(6) var<storage, read_write> destination: array<$DESTINATION>;
$MAGNITUDES_BINDING

var<workgroup> pixel_tile: array<$QUAD, $PIXEL_TILE>;
var<workgroup> filter_tile: array<$FILTER, $FILTER_TILE>;
$WORKGROUP_VARIABLES

// An output pixel: where its taps lie.
struct Place {
    image: u32,
    y: u32,
    x: u32,
}

fn place_of(pixel: u32) -> Place {
    let plane = params.output_height * params.output_width;
    let image = pixel / plane;
    let rest = pixel - image * plane;
    let y = rest / params.output_width;
    return Place(image, y, rest - y * params.output_width);
}

// The source pixel that tap (i, j) of a place reads, -1 for none.
fn source_pixel(place: Place, i: u32, j: u32) -> i32 {
    let row = positions[place.y * params.kernel_height + i];
    let column = positions[
        params.output_height * params.kernel_height + place.x * params.kernel_width + j
    ];
    if (row < 0 || column < 0) {
        return -1;
    }
    return i32(
        ((params.source_first + place.image) * params.source_height + u32(row))
        * params.source_width + u32(column)
    );
}
