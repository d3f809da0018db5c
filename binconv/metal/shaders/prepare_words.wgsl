
var<workgroup> nibbles: array<u32, 256>;

fn bit_at(pixel: u32, c: u32) -> u32 {
    $BIT
}

// An invocation makes 4 bits, so that neighbours read neighbouring pixels' channels; 8 make a word.
@compute @workgroup_size(256)
fn main(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let nibble = id.x + id.y * params.row;
    let word = nibble >> 3u;
    var bits = 0u;
    if (word < params.units) {
        let pixel_words = params.groups * params.group_words;
        let pixel = word / pixel_words;
        let at = word % pixel_words;
        let group = at / params.group_words;
        let first = (at % params.group_words) * 32u + (nibble & 7u) * 4u;
        for (var b = 0u; b < 4u; b++) {
            if (first + b < params.group_channels) {
                bits |= bit_at(pixel, group * params.group_channels + first + b) << b;
            }
        }
    }
    nibbles[local] = bits << ((nibble & 7u) * 4u);
    workgroupBarrier();
    if ((local & 7u) == 0u && word < params.units) {
        destination[word] = nibbles[local] | nibbles[local + 1u] | nibbles[local + 2u]
            | nibbles[local + 3u] | nibbles[local + 4u] | nibbles[local + 5u]
            | nibbles[local + 6u] | nibbles[local + 7u];
    }
}
