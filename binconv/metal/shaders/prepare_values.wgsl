
@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let at = id.x + id.y * params.row;
    if (at < params.units) {
        destination[at] = bits_of(value_at(at / params.channels, at % params.channels));
    }
}
