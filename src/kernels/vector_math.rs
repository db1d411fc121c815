//! Vectorised arithmetic of the CPU twins: loops over lanes that the compiler turns into vector instructions,
//! compiled twice on x86-64 and chosen at run time. It knows no operation and no tensor.

/// Values handled together; two AVX2 or four SSE2 or NEON registers.
pub(crate) const LANES: usize = 16;

/// Values that are worth a task of their own where each takes a few operations.
pub(crate) const ELEMENTS_PER_TASK: usize = 1 << 13;

/// Rows of `width` values that are worth a task of their own.
pub(crate) fn rows_per_task(width: usize) -> usize {
    (ELEMENTS_PER_TASK / width.max(1)).max(1)
}

/// Smallest argument with a normal result; below it [`exp`] returns zero.
const LOWEST_ARGUMENT: f32 = -87.3;
/// Largest argument; above it [`exp`] returns its value here, which is finite.
const HIGHEST_ARGUMENT: f32 = 88.3;
/// Adding and subtracting 1.5 * 2^23 rounds to the nearest integer, which is then also in the low bits.
const ROUND: f32 = 12_582_912.0;
/// High part of ln 2: its product with a small integer is exact.
const LN_2_HIGH: f32 = 0.693_359_4;
/// What [`LN_2_HIGH`] lacks to ln 2.
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// Work whose loops run over lanes. `run` must be `#[inline(always)]`, so that it is compiled for the
/// instruction set of its caller; `FMA` says whether that set multiplies and adds in one instruction.
pub(crate) trait VectorTask {
    /// Result of the work.
    type Output;
    /// Does the work.
    fn run<const FMA: bool>(self) -> Self::Output;
}

/// Runs a task with the widest instructions that this processor has.
pub(crate) fn run<T: VectorTask>(task: T) -> T::Output {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: both features were just found on this processor.
        return unsafe { run_avx2(task) };
    }
    // Every 64-bit ARM processor has fused multiply-add.
    #[cfg(target_arch = "aarch64")]
    return task.run::<true>();
    #[cfg(not(target_arch = "aarch64"))]
    task.run::<false>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<T: VectorTask>(task: T) -> T::Output {
    task.run::<true>()
}

/// `a * b + c`, in one instruction where there is one (without it `f32::mul_add` is a slow library call).
#[inline(always)]
pub(crate) fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `e^x` within 2 units in the last place, zero below -87.3, finite above 88.3; NaN stays NaN.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial of degree 6 in r (Cephes `expf`), then a shift by n.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    // Comparisons in this order leave a NaN in place.
    let limited = if x < LOWEST_ARGUMENT {
        LOWEST_ARGUMENT
    } else {
        x
    };
    let limited = if limited > HIGHEST_ARGUMENT {
        HIGHEST_ARGUMENT
    } else {
        limited
    };
    let shifted = multiply_add::<FMA>(limited, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = multiply_add::<FMA>(n, -LN_2_HIGH, limited);
    let r = multiply_add::<FMA>(n, -LN_2_LOW, r);
    let polynomial = multiply_add::<FMA>(1.987_569_1e-4, r, 1.398_199_9e-3);
    let polynomial = multiply_add::<FMA>(polynomial, r, 8.333_452e-3);
    let polynomial = multiply_add::<FMA>(polynomial, r, 4.166_579_6e-2);
    let polynomial = multiply_add::<FMA>(polynomial, r, 1.666_666_5e-1);
    let polynomial = multiply_add::<FMA>(polynomial, r, 0.5);
    let mantissa = multiply_add::<FMA>(polynomial, r * r, r) + 1.0;
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if x < LOWEST_ARGUMENT {
        0.0
    } else {
        mantissa * power
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Exponentials(Vec<f32>);

    impl VectorTask for Exponentials {
        type Output = Vec<f32>;
        #[inline(always)]
        fn run<const FMA: bool>(self) -> Vec<f32> {
            self.0.into_iter().map(exp::<FMA>).collect()
        }
    }

    #[test]
    fn exponentials_are_accurate_to_two_units_in_the_last_place() {
        let arguments: Vec<f32> = (-873_000..=883_000)
            .map(|step| step as f32 * 1e-4)
            .collect();
        for results in [
            run(Exponentials(arguments.clone())),
            Exponentials(arguments.clone()).run::<false>(),
        ] {
            for (&x, &result) in arguments.iter().zip(&results) {
                let exact = f64::from(x).exp();
                let unit = f64::from((exact as f32).next_up()) - f64::from(exact as f32);
                let error = (f64::from(result) - exact).abs() / unit;
                assert!(
                    error <= 2.0,
                    "exp({x}) = {result}, exact {exact}, {error} units off"
                );
            }
        }
    }

    #[test]
    fn exponentials_are_total() {
        let results = run(Exponentials(vec![
            0.0,
            -1e30,
            f32::NEG_INFINITY,
            1e30,
            f32::INFINITY,
            f32::NAN,
        ]));
        assert_eq!(results[..3], [1.0, 0.0, 0.0]);
        assert!(
            results[3] > 1e38 && results[3].is_finite() && results[4] == results[3],
            "{results:?}"
        );
        assert!(results[5].is_nan());
    }
}
