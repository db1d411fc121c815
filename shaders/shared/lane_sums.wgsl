// Sums over the lanes of a workgroup, the same in every lane and the same on every run. The kernel declares
// WORKGROUP, a multiple of SPAN.

const SPAN: u32 = 16u; // lanes whose values one lane adds up
const SPANS: u32 = WORKGROUP / SPAN;

struct Octet { low: vec4<f32>, high: vec4<f32> }
struct Place { index: u32, before: f32 }

var<workgroup> lanes_octet: array<Octet, WORKGROUP>;
var<workgroup> spans_octet: array<Octet, SPANS>;
var<workgroup> place: Place;

fn sum_octet(lane: u32, value: Octet) -> Octet {
    lanes_octet[lane] = value;
    workgroupBarrier();
    if lane < SPANS {
        var span = Octet(vec4<f32>(0.0), vec4<f32>(0.0));
        for (var other = lane * SPAN; other < (lane + 1u) * SPAN; other++) {
            span.low += lanes_octet[other].low;
            span.high += lanes_octet[other].high;
        }
        spans_octet[lane] = span;
    }
    workgroupBarrier(); // the next call writes the spans only after its own first barrier
    var total = Octet(vec4<f32>(0.0), vec4<f32>(0.0));
    for (var span = 0u; span < SPANS; span++) {
        total.low += spans_octet[span].low;
        total.high += spans_octet[span].high;
    }
    return total;
}

fn sum_scalar(lane: u32, value: f32) -> f32 {
    return sum_octet(lane, Octet(vec4<f32>(value, 0.0, 0.0, 0.0), vec4<f32>(0.0))).low.x;
}

// The lane whose value takes the running sum, which starts at `before`, above `goal`, and the sum before that lane;
// the last lane with a value if rounding keeps the whole sum below the goal.
fn locate(lane: u32, value: f32, before: f32, goal: f32) -> Place {
    lanes_octet[lane].low.x = value;
    workgroupBarrier();
    if lane < SPANS {
        var span = 0.0;
        for (var other = lane * SPAN; other < (lane + 1u) * SPAN; other++) {
            span += lanes_octet[other].low.x;
        }
        spans_octet[lane].low.x = span;
    }
    workgroupBarrier();
    if lane == 0u {
        var found = Place(0u, before);
        var running = before;
        for (var span = 0u; span < SPANS && running <= goal; span++) {
            if spans_octet[span].low.x > 0.0 {
                found = Place(span * SPAN, running);
            }
            running += spans_octet[span].low.x;
        }
        running = found.before;
        let first = found.index;
        for (var other = first; other < first + SPAN && running <= goal; other++) {
            if lanes_octet[other].low.x > 0.0 {
                found = Place(other, running);
            }
            running += lanes_octet[other].low.x;
        }
        place = found;
    }
    workgroupBarrier();
    let found = place;
    workgroupBarrier(); // `place` may be written again
    return found;
}
