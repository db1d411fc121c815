//! Advantages of groups of equal size, from rewards on the host to advantages on the host.

use burn::tensor::{Tensor, TensorData};
use vision_ekipl::kernels::{AdvantageRows, group_advantage};
use vision_ekipl::options::ScaleRewards;

use crate::case::{Bench, Case};

const GROUP: usize = 8;

/// Runs every case of the operation.
pub fn run(bench: &Bench) {
    for groups in [14, 8192] {
        whole_groups(bench, groups);
    }
}

fn whole_groups(bench: &Bench, groups: usize) {
    let rows = groups * GROUP;
    let device = &bench.device;
    let rewards: Vec<f32> = (0..rows).map(|row| (row * 7 % 11) as f32 * 0.25).collect();
    let groups_of: Vec<u32> = (0..rows).map(|row| (row / GROUP) as u32).collect();
    let all = vec![true; rows];
    let input = AdvantageRows {
        groups: &groups_of,
        in_baseline: &all,
        wanted: &all,
        scale_rewards: ScaleRewards::Group,
        rewards: &rewards,
    };
    let upload = |values: Vec<f32>| Tensor::<1>::from_data(TensorData::new(values, [rows]), device);
    bench.run(Case {
        name: format!("group_advantage, {groups} groups of {GROUP}"),
        bytes: rows * 4 * 3,
        tolerance: 1e-5,
        ours: || upload(group_advantage(&input, device).expect("the device answers")),
        stock: || {
            let rewards = upload(rewards.clone()).reshape([groups, GROUP]);
            let (variance, mean) = rewards.clone().var_mean(1);
            let advantages = (rewards - mean) / (variance.sqrt() + 1e-4);
            upload(advantages.into_data().try_into_vec().expect("f32"))
        },
    });
}
