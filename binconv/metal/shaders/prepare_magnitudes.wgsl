
var<workgroup> partial: array<f32, 256>;

// 8 invocations share a pixel, so that few roundings lie between a value and the sum.
@compute @workgroup_size(256)
fn main(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let pixel = (id.x + id.y * params.row) >> 3u;
    let lane = local & 7u;
    var sum = 0.0;
    if (pixel < params.units) {
        for (var c = lane; c < params.channels; c += 8u) {
            sum += abs(value_at(pixel, c));
        }
    }
    partial[local] = sum;
    workgroupBarrier();
    if (lane == 0u && pixel < params.units) {
        destination[pixel] = bits_of(
            ((partial[local] + partial[local + 1u]) + (partial[local + 2u] + partial[local + 3u]))
            + ((partial[local + 4u] + partial[local + 5u])
                + (partial[local + 6u] + partial[local + 7u])));
    }
}
