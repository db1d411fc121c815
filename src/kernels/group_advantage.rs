//! Rewards of groups -> advantages on a device: the kernel of the stage `crate::advantage`, which is its CPU twin.
//! It knows neither actions nor how they were chosen.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, Flex, backend_extension};
use burn::cubecl::prelude::BufferIOAttr;
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_flex::FlexTensor;

use super::assemble::Shader;
use super::flex_slices::{floats, from_floats};
use super::launch::{contiguous, empty, launch};
use crate::advantage::{self, AdvantageInput, ScaleRewards};

/// Mark of a row whose reward counts in its group's mean and standard deviation.
const BASELINE: u8 = 1;
/// Mark of a row that gets an advantage.
const WANTED: u8 = 2;
/// Rows from which on their numbers are not exact as f32.
const MAX_ROWS: usize = 1 << 24;
/// Invocations per group; software adapters pay for every invocation at every barrier.
const SMALL_WORKGROUP: u32 = 32;
/// Invocations where one workgroup walks through many rows.
const LARGE_WORKGROUP: u32 = 256;
/// Largest group of the small workgroup.
const SMALL_GROUP: usize = 1024;

/// [`crate::advantage::group_advantage`] on `device`: the same values within f32 rounding.
///
/// # Panics
/// If the columns of `input` differ in length, it has 2^24 rows or more, or the device fails.
#[must_use]
pub fn group_advantage(input: &AdvantageInput, device: &Device) -> Vec<f32> {
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
        return Vec::new();
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
    let advantages = Tensor::<1>::from_dispatch(advantages).into_data();
    let advantages: Vec<f32> = advantages
        .try_into_vec()
        .expect("the operation returns f32");
    let mut in_order = vec![0.0; rows];
    for (&row, advantage) in sorted.order.iter().zip(advantages) {
        in_order[row] = advantage;
    }
    in_order
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
    fn new(input: &AdvantageInput) -> Self {
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
        let rewards = floats(&rewards).into_owned();
        let rows = rewards.len();
        let marked = |mark: u8| {
            floats(&marks)
                .iter()
                .map(|&marks| marks as u8 & mark != 0)
                .collect()
        };
        let starts = floats(&starts);
        let groups = starts.windows(2).enumerate();
        let groups = groups
            .flat_map(|(group, ends)| vec![group as u32; (ends[1] - ends[0]) as usize])
            .collect();
        let (in_baseline, wanted) = (marked(BASELINE), marked(WANTED));
        let scale_rewards = settings.scale_rewards;
        let input = AdvantageInput {
            rewards,
            groups,
            in_baseline,
            wanted,
            scale_rewards,
        };
        from_floats(advantage::group_advantage(&input), [rows])
    }
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
    vec![shader(SMALL_WORKGROUP), shader(LARGE_WORKGROUP)]
}

fn shader(workgroup: u32) -> Shader {
    Shader {
        name: "group_advantage",
        source: include_str!("../../shaders/group_advantage.wgsl"),
        shared: &[include_str!("../../shaders/shared/index.wgsl")],
        tunables: vec![("WORKGROUP", format!("{workgroup}u"))],
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

/// Runs the WGSL kernel: one workgroup per group, after one that measures the whole batch if the scale asks for it.
fn launch_group_advantage(rows: [CubeTensor; 3], settings: Settings) -> CubeTensor {
    let [rewards, marks, starts] = rows.map(contiguous);
    let groups = starts.meta.num_elements() - 1;
    let count = rewards.meta.num_elements();
    let batch_divisor = empty(&rewards, [1], DType::F32);
    let advantages = empty(&rewards, [count], DType::F32);
    let run = |pass: Pass, groups: usize, largest: usize| {
        let buffers = [
            (&rewards, BufferIOAttr::ReadOnly),
            (&marks, BufferIOAttr::ReadOnly),
            (&starts, BufferIOAttr::ReadOnly),
            (&batch_divisor, BufferIOAttr::ReadWrite),
            (&advantages, BufferIOAttr::ReadWrite),
        ];
        let workgroup = if largest <= SMALL_GROUP {
            SMALL_WORKGROUP
        } else {
            LARGE_WORKGROUP
        };
        launch(
            shader(workgroup),
            &buffers,
            &[groups as u32, count as u32, pass as u32],
            groups as u32,
        );
    };
    match settings.scale_rewards {
        ScaleRewards::None => run(Pass::None, groups, settings.largest_group),
        ScaleRewards::Group => run(Pass::Group, groups, settings.largest_group),
        ScaleRewards::Batch => {
            run(Pass::Measure, 1, count);
            run(Pass::Batch, groups, settings.largest_group);
        }
    }
    advantages
}
