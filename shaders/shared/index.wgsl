// Index of this workgroup when the dispatch was folded into two dimensions (65,535 groups per dimension).
fn flat_group(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.x + group.y * groups.x;
}
