//! Rewards of groups -> advantages on a device: (reward - mean of the group) / divisor.
//! It knows neither actions nor how they were chosen; the stage that does has the same formula on the host.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, Flex, backend_extension};
use burn::cubecl::prelude::BufferIOAttr;
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::assemble::Shader;
use super::flex_slices::{floats, from_floats};
use super::launch::{contiguous, empty, launch};
use crate::device::DeviceFailure;
use crate::options::ScaleRewards;

/// Mark of a row whose reward counts in its group's mean and standard deviation.
const BASELINE: u8 = 1;
/// Mark of a row that gets an advantage.
const WANTED: u8 = 2;
/// Rows from which on their numbers are not exact as f32.
const MAX_ROWS: usize = 1 << 24;
/// Largest group that one thread walks through alone; larger ones get a workgroup each.
const SMALL_GROUP: usize = 64;

/// Added to a standard deviation before it divides, as in TRL.
const EPSILON: f64 = 1e-4;

/// Rows in any order; every column is `[R]`.
#[derive(Debug, Clone, Copy)]
pub struct AdvantageRows<'a> {
    /// Rewards, NaN where there is none.
    pub rewards: &'a [f32],
    /// Group of each row, any numbers.
    pub groups: &'a [u32],
    /// Whether the reward counts in its group's mean and standard deviation.
    pub in_baseline: &'a [bool],
    /// Whether the row gets an advantage; all others get 0.
    pub wanted: &'a [bool],
    /// Which standard deviation divides: the group's baseline's, all wanted rows', or none.
    pub scale_rewards: ScaleRewards,
}

/// `[R]` advantages (r − μ) / divisor of the wanted rows that have a reward and whose group has a baseline, else 0.
///
/// μ and σ are over the group's baseline; σ is unbiased. The divisor is σ + 1e-4, or 1 where all its rewards are equal
/// (TRL `GRPOTrainer`, `sum_then_normalize`).
///
/// # Errors
/// If the device fails.
///
/// # Panics
/// If the columns of `input` differ in length or have 2^24 rows or more.
pub fn group_advantage(
    input: &AdvantageRows<'_>,
    device: &Device,
) -> Result<Vec<f32>, DeviceFailure> {
    let rows = input.rewards.len();
    let columns = [
        input.groups.len(),
        input.in_baseline.len(),
        input.wanted.len(),
    ];
    assert!(
        columns == [rows; 3],
        "group_advantage: {rows} rewards, but columns of {columns:?}"
    );
    assert!(
        rows < MAX_ROWS,
        "group_advantage: {rows} rows, expected less than {MAX_ROWS}"
    );
    if rows == 0 {
        return Ok(Vec::new());
    }
    let sorted = SortedRows::new(input);
    let tensor = |values: Vec<f32>| {
        let length = values.len();
        Tensor::<1>::from_data(TensorData::new(values, [length]), device).into_dispatch()
    };
    let advantages = Dispatch::group_advantage(
        tensor(sorted.rewards),
        tensor(sorted.marks),
        tensor(sorted.starts),
        Settings {
            scale_rewards: input.scale_rewards,
            largest_group: sorted.largest_group,
        },
    );
    let advantages = Tensor::<1>::from_dispatch(advantages).try_into_vec_as::<f32>();
    let advantages = advantages.map_err(|error| DeviceFailure::new(&error.to_string()))?;
    let mut in_order = vec![0.0; rows];
    for (&row, advantage) in sorted.order.iter().zip(advantages) {
        in_order[row] = advantage;
    }
    Ok(in_order)
}

/// Rows brought together by group.
struct SortedRows {
    /// Row of the input at each place.
    order: Vec<usize>,
    /// `[R]` rewards, 0 where there is none.
    rewards: Vec<f32>,
    /// `[R]` [`BASELINE`] and [`WANTED`] added up, 0 where there is no reward.
    marks: Vec<f32>,
    /// `[G + 1]` first place of every group, then R.
    starts: Vec<f32>,
    largest_group: usize,
}

impl SortedRows {
    fn new(input: &AdvantageRows<'_>) -> Self {
        let mut order: Vec<usize> = (0..input.rewards.len()).collect();
        order.sort_by_key(|&row| input.groups[row]);
        let by_group = || {
            order
                .chunk_by(|&a, &b| input.groups[a] == input.groups[b])
                .map(<[usize]>::len)
        };
        let ends = by_group().scan(0, |end, length| {
            *end += length;
            Some(*end as f32)
        });
        let mark = |&row: &usize| {
            let marks =
                BASELINE * u8::from(input.in_baseline[row]) + WANTED * u8::from(input.wanted[row]);
            if input.rewards[row].is_nan() {
                0.0
            } else {
                f32::from(marks)
            }
        };
        let reward = |&row: &usize| {
            if input.rewards[row].is_nan() {
                0.0
            } else {
                input.rewards[row]
            }
        };
        Self {
            rewards: order.iter().map(reward).collect(),
            marks: order.iter().map(mark).collect(),
            starts: std::iter::once(0.0).chain(ends).collect(),
            largest_group: by_group().max().unwrap_or(0),
            order,
        }
    }
}

/// What the kernel needs beside the rows.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    scale_rewards: ScaleRewards,
    largest_group: usize,
}

/// The operation on each backend.
#[backend_extension(Cube, Flex, Autodiff)]
pub trait GroupAdvantageOps: Backend {
    /// `rewards` [R], `marks` [R] and `starts` [G + 1] of rows sorted by group -> advantages [R].
    fn group_advantage(
        rewards: FloatTensor<Self>,
        marks: FloatTensor<Self>,
        starts: FloatTensor<Self>,
        settings: Settings,
    ) -> FloatTensor<Self>;
}

impl GroupAdvantageOps for CubeBackend {
    fn group_advantage(
        rewards: CubeTensor,
        marks: CubeTensor,
        starts: CubeTensor,
        settings: Settings,
    ) -> CubeTensor {
        launch_group_advantage([rewards, marks, starts], settings)
    }
}

impl GroupAdvantageOps for Flex {
    fn group_advantage(
        rewards: FlexTensor,
        marks: FlexTensor,
        starts: FlexTensor,
        settings: Settings,
    ) -> FlexTensor {
        let rows = Rows {
            rewards: &floats(&rewards),
            marks: &floats(&marks),
        };
        let advantages = rows.advantages(&floats(&starts), settings.scale_rewards);
        let length = advantages.len();
        from_floats(advantages, [length])
    }
}

/// Rows of the CPU twin.
#[derive(Clone, Copy)]
struct Rows<'a> {
    rewards: &'a [f32],
    marks: &'a [f32],
}

impl Rows<'_> {
    /// The CPU twin: rows sorted by group and the groups' starts -> advantages, parallel over groups.
    fn advantages(self, starts: &[f32], scale: ScaleRewards) -> Vec<f32> {
        let (_, batch) = mean_and_divisor(&self.marked(WANTED));
        let group = |ends: &[f32]| {
            let range = ends[0] as usize..ends[1] as usize;
            let group = Rows {
                rewards: &self.rewards[range.clone()],
                marks: &self.marks[range],
            };
            let (mean, own) = mean_and_divisor(&group.marked(BASELINE));
            let divisor = match scale {
                ScaleRewards::Group => own,
                ScaleRewards::Batch => batch,
                ScaleRewards::None => 1.0,
            };
            let advantage = move |reward: f32| match mean {
                Some(mean) if !reward.is_nan() => ((f64::from(reward) - mean) / divisor) as f32,
                _ => 0.0,
            };
            group
                .marked(WANTED)
                .into_iter()
                .map(advantage)
                .collect::<Vec<_>>()
        };
        starts.par_windows(2).flat_map_iter(group).collect()
    }

    /// Rewards with NaN where the mark is missing.
    fn marked(self, mark: u8) -> Vec<f32> {
        let rows = self.rewards.iter().zip(self.marks);
        rows.map(|(&reward, &marks)| {
            if marks as u8 & mark != 0 {
                reward
            } else {
                f32::NAN
            }
        })
        .collect()
    }
}

/// The mean of the rewards that are there, and the standard deviation + 1e-4, or 1 where there is no spread.
fn mean_and_divisor(rewards: &[f32]) -> (Option<f64>, f64) {
    let present = || rewards.iter().copied().filter(|reward| !reward.is_nan());
    let Some(first) = present().next() else {
        return (None, 1.0);
    };
    if present().all(|reward| reward == first) {
        return (Some(f64::from(first)), 1.0);
    }
    let count = present().count() as f64;
    let mean = present().map(f64::from).sum::<f64>() / count;
    let squares: f64 = present()
        .map(|reward| (f64::from(reward) - mean).powi(2))
        .sum();
    (Some(mean), (squares / (count - 1.0)).sqrt() + EPSILON)
}

impl<B: GroupAdvantageOps, C: CheckpointStrategy> GroupAdvantageOps for Autodiff<B, C> {
    fn group_advantage(
        rewards: FloatTensor<Self>,
        marks: FloatTensor<Self>,
        starts: FloatTensor<Self>,
        settings: Settings,
    ) -> FloatTensor<Self> {
        // Advantages are constants of the loss.
        let [rewards, marks, starts] =
            [rewards, marks, starts].map(|tensor| tensor.into_primitive());
        Self::from_inner(B::group_advantage(rewards, marks, starts, settings))
    }
}

/// Both variants of the kernel.
pub(crate) fn shaders() -> Vec<Shader> {
    vec![
        shader(Threads::OnePerGroup),
        shader(Threads::WorkgroupPerGroup),
    ]
}

/// How many threads share a group.
#[derive(Clone, Copy)]
enum Threads {
    OnePerGroup,
    WorkgroupPerGroup,
}

fn shader(threads: Threads) -> Shader {
    let (workgroup, lanes) = match threads {
        Threads::OnePerGroup => (64, 1),
        Threads::WorkgroupPerGroup => (256, 256),
    };
    Shader {
        name: "group_advantage",
        source: include_str!("../../shaders/group_advantage.wgsl"),
        shared: &[include_str!("../../shaders/shared/index.wgsl")],
        tunables: vec![
            ("WORKGROUP", format!("{workgroup}u")),
            ("LANES", format!("{lanes}u")),
        ],
        workgroup,
    }
}

/// What a launch does: the scale of the advantages, or the measurement of the batch's divisor.
#[derive(Clone, Copy)]
enum Pass {
    None = 0,
    Group = 1,
    Batch = 2,
    Measure = 3,
}

/// Runs the WGSL kernel over all groups, after one workgroup that measures the whole batch if the scale asks for it.
fn launch_group_advantage(rows: [CubeTensor; 3], settings: Settings) -> CubeTensor {
    let [rewards, marks, starts] = rows.map(contiguous);
    let groups = starts.meta.num_elements() - 1;
    let count = rewards.meta.num_elements();
    let batch_divisor = empty(&rewards, [1], DType::F32);
    let advantages = empty(&rewards, [count], DType::F32);
    let run = |pass: Pass, threads: Threads, workgroups: usize| {
        let buffers = [
            (&rewards, BufferIOAttr::ReadOnly),
            (&marks, BufferIOAttr::ReadOnly),
            (&starts, BufferIOAttr::ReadOnly),
            (&batch_divisor, BufferIOAttr::ReadWrite),
            (&advantages, BufferIOAttr::ReadWrite),
        ];
        let params = [groups as u32, count as u32, pass as u32];
        launch(shader(threads), &buffers, &params, workgroups as u32);
    };
    let pass = match settings.scale_rewards {
        ScaleRewards::None => Pass::None,
        ScaleRewards::Group => Pass::Group,
        ScaleRewards::Batch => {
            run(Pass::Measure, Threads::WorkgroupPerGroup, 1);
            Pass::Batch
        }
    };
    if settings.largest_group <= SMALL_GROUP {
        run(pass, Threads::OnePerGroup, groups.div_ceil(64));
    } else {
        run(pass, Threads::WorkgroupPerGroup, groups);
    }
    advantages
}
