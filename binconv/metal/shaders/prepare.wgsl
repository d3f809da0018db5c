// From a source of any form to what the sums read: $OUTPUT is "words" (bits, a word for 32 channels
// of a group), "values" (v in float32) or "magnitudes" (sum of |v| over the channels of a pixel).

struct Params {
    zero: u32,
    units: u32,             // words, values or pixels to be made
    row: u32,               // invocations in a row of workgroups
    source_first: u32,      // first source pixel
    source_stride: u32,     // elements from one source pixel to the next (bits: words)
    channel_offset: u32,    // first source channel
    groups: u32,
    group_channels: u32,
    group_words: u32,
    channels: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<u32>;
@group(0) @binding(2) var<storage, read> terms: array<f32>; // bias and scale of each channel
@group(0) @binding(3) var<storage, read_write> destination: array<u32>;

// The number of channel c of a pixel.
fn value_at(pixel: u32, c: u32) -> f32 {
    let at = (params.source_first + pixel) * params.source_stride + params.channel_offset + c;
    $LOAD
    $TERMS
    return v;
}
