//! Changes of an input: bytes, numbers and names in its text, and values of its JSON.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

/// The file of the user's beside the input folder that changed names point to.
pub const SECRET: &str = "secret";

/// Numbers that arithmetic trips over.
const NUMBERS: [&str; 24] = [
    "0",
    "-0",
    "-1",
    "1",
    "2",
    "3",
    "7",
    "255",
    "256",
    "65536",
    "2147483647",
    "2147483648",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e39",
    "1e308",
    "1e400",
    "1e-46",
    "-1e308",
    "0.5",
];

/// Words that readers trip over.
const WORDS: [&str; 34] = [
    "",
    " ",
    "\n",
    "\0",
    "\r\n",
    "\u{feff}",
    "\u{1b}[2J",
    "\u{202e}",
    "null",
    "true",
    "NaN",
    "Infinity",
    "../secret",
    "../../secret",
    "/dev/zero",
    "/dev/stdin",
    "/proc/self/mem",
    "file:///etc/passwd",
    "a/../../secret",
    "..",
    ".",
    "~",
    "$HOME",
    "<image>",
    "<|image_pad|>",
    "<video>",
    "{Question}",
    "{{",
    "{% for i in range(100000000) %}x{% endfor %}",
    "\\ud800",
    "{\"",
    "]]]]",
    "%s",
    "=1+1",
];

/// One input made of the seeds by one to four changes.
pub fn change(random: &mut ChaCha8Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut input = seeds.choose(random).expect("a seed").clone();
    for _ in 0..random.random_range(1..=4) {
        let changed = match random.random_range(0..10) {
            0..=4 => structured(random, &input),
            5 | 6 => number(random, &input),
            _ => None,
        };
        match changed {
            Some(changed) => input = changed,
            None => bytes(random, &mut input, seeds),
        }
    }
    input
}

/// Changes a value of the JSON, or of one line of JSON lines.
fn structured(random: &mut ChaCha8Rng, input: &[u8]) -> Option<Vec<u8>> {
    if let Ok(mut value) = serde_json::from_slice::<Value>(input) {
        value_change(random, &mut value);
        return Some(value.to_string().into_bytes());
    }
    let text = std::str::from_utf8(input).ok()?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let line = random.random_range(0..lines.len().max(1));
    let mut value = serde_json::from_str::<Value>(lines.get(line)?).ok()?;
    value_change(random, &mut value);
    lines[line] = value.to_string();
    Some((lines.join("\n") + "\n").into_bytes())
}

fn value_change(random: &mut ChaCha8Rng, root: &mut Value) {
    let count = count(root);
    let mut index = random.random_range(0..count);
    let kind = random.random_range(0..8);
    let Some(place) = nth(root, &mut index) else {
        return;
    };
    match kind {
        0..=2 => *place = any_value(random),
        3 => wrap(random, place),
        _ => match place {
            Value::Object(map) => object_change(random, map),
            Value::Array(items) if !items.is_empty() => {
                let at = random.random_range(0..items.len());
                match kind {
                    4 => drop(items.remove(at)),
                    5 => items.insert(at, any_value(random)),
                    6 => items.reverse(),
                    _ => {
                        let copy = items[at].clone();
                        items.extend(std::iter::repeat_n(copy, random.random_range(1..300)));
                    }
                }
            }
            Value::String(text) => text_change(random, text),
            other => *other = any_value(random),
        },
    }
}

fn object_change(random: &mut ChaCha8Rng, map: &mut Map<String, Value>) {
    let keys: Vec<String> = map.keys().cloned().collect();
    let Some(key) = keys.choose(random) else {
        map.insert(word(random), any_value(random));
        return;
    };
    match random.random_range(0..5) {
        0 => drop(map.shift_remove(key)),
        1 => {
            let value = map.shift_remove(key).unwrap_or(Value::Null);
            map.insert(word(random), value);
        }
        2 => drop(map.insert(key.clone(), any_value(random))),
        3 => drop(map.insert(word(random), any_value(random))),
        _ => {
            // Two keys change places.
            let other = keys.choose(random).unwrap_or(key).clone();
            let (a, b) = (map[key].clone(), map[&other].clone());
            map.insert(key.clone(), b);
            map.insert(other, a);
        }
    }
}

fn text_change(random: &mut ChaCha8Rng, text: &mut String) {
    let places: Vec<usize> = text
        .char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .collect();
    let at = *places.choose(random).unwrap_or(&0);
    match random.random_range(0..4) {
        0 => text.truncate(at),
        1 => *text = text.repeat(random.random_range(2..50)),
        2 => *text = word(random),
        _ => text.insert_str(at, &word(random)),
    }
}

/// Many brackets around a value: what recursion trips over.
fn wrap(random: &mut ChaCha8Rng, place: &mut Value) {
    for _ in 0..*[1, 2, 100, 500].choose(random).expect("depths") {
        let inner = place.take();
        *place = json!([inner]);
    }
}

fn any_value(random: &mut ChaCha8Rng) -> Value {
    match random.random_range(0..10) {
        0 => Value::Null,
        1 => json!(random.random::<bool>()),
        2..=5 => {
            let text = NUMBERS.choose(random).expect("numbers");
            serde_json::from_str(text).unwrap_or(json!(1e308))
        }
        6 | 7 => Value::String(word(random)),
        8 => json!([word(random), word(random)]),
        _ => json!({ word(random): word(random) }),
    }
}

fn word(random: &mut ChaCha8Rng) -> String {
    let word = *WORDS.choose(random).expect("words");
    match random.random_range(0..12) {
        0 => word.repeat(random.random_range(1..3000)),
        1 => "x".repeat(*[1, 100, 70_000].choose(random).expect("lengths")),
        _ => word.to_owned(),
    }
}

/// Values of a JSON tree, itself included.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// The value number `index` from the root on.
fn nth<'a>(value: &'a mut Value, index: &mut usize) -> Option<&'a mut Value> {
    if *index == 0 {
        return Some(value);
    }
    *index -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, index)),
        Value::Object(map) => map.values_mut().find_map(|item| nth(item, index)),
        _ => None,
    }
}

/// Replaces a number in the text by another one.
fn number(random: &mut ChaCha8Rng, input: &[u8]) -> Option<Vec<u8>> {
    let is_part = |byte: &u8| byte.is_ascii_digit();
    let starts: Vec<usize> = (0..input.len())
        .filter(|at| is_part(&input[*at]) && (*at == 0 || !is_part(&input[at - 1])))
        .collect();
    let start = *starts.choose(random)?;
    let length = input[start..]
        .iter()
        .take_while(|byte| is_part(byte))
        .count();
    let new = NUMBERS.choose(random).expect("numbers").as_bytes();
    Some([&input[..start], new, &input[start + length..]].concat())
}

/// Changes bytes without knowing what they mean.
fn bytes(random: &mut ChaCha8Rng, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = random.random_range(0..=input.len());
    let end = (at + random.random_range(1..=64)).min(input.len());
    match random.random_range(0..8) {
        0 => input.truncate(at),
        1 => drop(input.drain(at..end)),
        2 => {
            let copy = input[at..end].repeat(random.random_range(1..20));
            drop(input.splice(at..at, copy));
        }
        3 => drop(input.splice(at..at, word(random).into_bytes())),
        4 => {
            let other = seeds.choose(random).expect("a seed");
            let from = random.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        5 => {
            for byte in &mut input[at..end] {
                *byte = *[0, 0x7f, 0x80, 0xff, b'"', b'{', b'\n']
                    .choose(random)
                    .expect("bytes");
            }
        }
        _ => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.random_range(0..8);
            }
        }
    }
}

/// The changes reach every part of an input, and the same number gives the same input.
#[test]
fn changes_are_many_and_repeatable() {
    use rand::SeedableRng;
    let seeds = [b"{\"a\": [1, {\"b\": \"text\"}], \"c\": null}".to_vec()];
    let made = |seed: u64| change(&mut ChaCha8Rng::seed_from_u64(seed), &seeds);
    let all: std::collections::BTreeSet<Vec<u8>> = (0..500).map(made).collect();
    assert!(all.len() > 400, "{}", all.len());
    assert_eq!(made(7), made(7));
    let json = |input: &&Vec<u8>| serde_json::from_slice::<Value>(input).is_ok();
    assert!(
        all.iter().filter(json).count() > 150,
        "enough of it is JSON still"
    );
}
