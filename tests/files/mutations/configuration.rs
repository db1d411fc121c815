//! Configuration: the text of a file, and extreme values of single keys.

use std::path::Path;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use vision_ekipl::config::{self, Purpose};

use super::{World, assert_is_a_message, each_case};

/// Every shipped configuration of a run, and all keys with their defaults.
fn files() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("configs")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).expect("readable"))
        .collect()
}

/// What a run computes from its configuration before it holds anything.
fn plan(world: &World, name: &str, text: &[u8], flags: &[(String, String)]) {
    let path = world.write(name, text);
    for purpose in [Purpose::Train, Purpose::Sft, Purpose::Eval] {
        match world.keeps(|| config::load(purpose, &path, flags)) {
            Ok(run) => {
                for rows in [1, 33, 35_000] {
                    match run.steps(rows) {
                        Ok(steps) => drop(run.warmup_steps(steps)),
                        Err(error) => assert_is_a_message(&error.to_string()),
                    }
                    if let Err(error) = run.sft_steps(rows) {
                        assert_is_a_message(&error.to_string());
                    }
                }
                assert!(run.to_yaml().len() < 1 << 20);
            }
            Err(error) => assert_is_a_message(&error.to_string()),
        }
    }
}

#[test]
fn configuration_files() {
    each_case("configuration", 1200, &files(), |input| {
        plan(&World::new(), "run.yaml", input, &[])
    });
}

/// Values of one to three keys at the ends of what can be written.
#[test]
fn extreme_values_of_keys() {
    const VALUES: [&str; 22] = [
        "0",
        "-1",
        "1",
        "2",
        "3",
        "0.5",
        "1e-46",
        "1e39",
        "1e308",
        "-1e308",
        ".nan",
        ".inf",
        "4611686018427387904",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "2147483648",
        "",
        "null",
        "[]",
        "{}",
    ];
    let base = b"model_name_or_path: model\ndataset_name: rows.json\noutput_dir: out\n".to_vec();
    let world = World::new();
    let path = world.write("run.yaml", &base);
    let run = config::load(Purpose::Train, &path, &[]).expect("a configuration");
    let text = run.to_yaml();
    let keys = text.lines().filter_map(|line| line.split_once(':'));
    let keys = keys.map(|(key, _)| key.to_owned());
    let keys: Vec<String> = keys
        .filter(|key| !key.starts_with(['#', ' ', '-']))
        .collect();
    assert!(keys.len() > 90, "{}", keys.len());
    let seeds: Vec<Vec<u8>> = (0..4000_u32)
        .map(|case| case.to_le_bytes().to_vec())
        .collect();
    // No input is changed: each is the number from which keys and values are drawn.
    each_case("keys", 0, &seeds, move |input| {
        let number = u32::from_le_bytes(input.try_into().expect("four bytes"));
        let mut random = ChaCha8Rng::seed_from_u64(u64::from(number));
        let count = random.random_range(1..=3);
        let mut flag = || {
            let key = keys.choose(&mut random).expect("keys");
            let value = VALUES.choose(&mut random).expect("values");
            (key.clone(), (*value).to_owned())
        };
        let flags: Vec<(String, String)> = (0..count).map(|_| flag()).collect();
        plan(&World::new(), "run.yaml", &base, &flags);
    });
}
