//! Nothing goes round: neither among the parts of a folder nor among files, and no room looks up.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{self, Uses};
use super::{CIRCLE_OF_FILES, CIRCLE_OF_PARTS, UPWARD, report};

/// Who stands on whose shoulders: each file may use files of lower floors, and of its own entry of this list. The longest
/// prefix that fits counts.
const FLOORS: [(&str, usize); 26] = [
    // What travels.
    ("src/record.rs", 0),
    ("src/json_lines/", 0),
    ("src/options", 0),
    ("src/printable.rs", 0),
    ("src/seed.rs", 0),
    ("src/statistics.rs", 0),
    ("src/system/", 0),
    // Pictures; which device computes.
    ("src/picture/", 1),
    ("src/device", 1),
    // Files to prompts; operations on tensors.
    ("src/data/", 2),
    ("src/kernels/", 2),
    // Prompts to groups with credit.
    ("src/actions/", 3),
    // Keys; weights to tokens; gradients to weights.
    ("src/config/", 4),
    ("src/model/", 4),
    ("src/learner/optimizer/", 4),
    // Groups to gradients.
    ("src/learner/", 5),
    // A small model and data from nothing.
    ("src/start/", 6),
    ("src/synthetic/", 6),
    // One run.
    ("src/run/", 7),
    // Many runs, and what is shown with one.
    ("src/study/", 8),
    ("src/demo/", 8),
    // What a person types.
    ("src/cli/", 9),
    ("src/commands/", 10),
    ("src/lib.rs", 11),
    ("src/main.rs", 11),
    // A new room without a floor is nobody's neighbour.
    ("src/", 12),
];

#[test]
fn the_parts_of_a_folder_form_no_circle() {
    let mut places = Vec::new();
    for (folder, (edges, words)) in by_folder(&graph::uses()) {
        for circle in graph::circles(&edges) {
            places.push((folder.clone(), describe(&circle, &words)));
        }
    }
    report(
        CIRCLE_OF_PARTS,
        "a part that needs all others cannot be read, tested or moved alone",
        places,
    );
}

#[test]
fn files_form_no_circle() {
    let uses = graph::uses();
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut words: BTreeMap<(String, String), String> = BTreeMap::new();
    for (from, used) in &uses {
        for (to, written) in used {
            edges.entry(from.clone()).or_default().insert(to.clone());
            words.insert((from.clone(), to.clone()), written.clone());
        }
    }
    let first = |circle: &BTreeSet<String>| circle.first().cloned().unwrap_or_default();
    let circles = graph::circles(&edges);
    let places = circles
        .iter()
        .map(|circle| (first(circle), describe(circle, &words)));
    report(
        CIRCLE_OF_FILES,
        "what parts of a folder share stands in a file of its own, below them",
        places.collect(),
    );
}

#[test]
fn no_room_uses_one_above_it() {
    let mut places = Vec::new();
    for (from, used) in graph::uses() {
        let (room, floor) = floor_of(&from);
        for (to, written) in used {
            let (other, below) = floor_of(&to);
            if room != other && below >= floor {
                places.push((from.clone(), format!("`{written}` of {to} is not below it")));
            }
        }
    }
    report(
        UPWARD,
        "a stranger reads the program from the ground up",
        places,
    );
}

fn floor_of(path: &str) -> (&'static str, usize) {
    let fits = FLOORS.iter().filter(|(prefix, _)| path.starts_with(prefix));
    *fits
        .max_by_key(|(prefix, _)| prefix.len())
        .expect("every file is below src/")
}

type Edges = BTreeMap<String, BTreeSet<String>>;
type Words = BTreeMap<(String, String), String>;

/// For each folder the uses between its parts. What a folder's own module and its parts say of each other is left out: it is
/// no part.
fn by_folder(uses: &Uses) -> BTreeMap<String, (Edges, Words)> {
    let mut folders: BTreeMap<String, (Edges, Words)> = BTreeMap::new();
    for (from, used) in uses {
        for (to, written) in used {
            let (from, to) = (words_of(from), words_of(to));
            let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if let (Some(part), Some(other)) = (from.get(shared), to.get(shared)) {
                let (edges, words) = folders.entry(from[..shared].join("/")).or_default();
                edges
                    .entry((*part).to_owned())
                    .or_default()
                    .insert((*other).to_owned());
                words.insert(((*part).to_owned(), (*other).to_owned()), written.clone());
            }
        }
    }
    folders
}

/// `[src, data, prompt]` for `src/data/prompt/mod.rs`.
fn words_of(path: &str) -> Vec<&str> {
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').collect()
}

/// The uses that keep the circle closed.
fn describe(circle: &BTreeSet<String>, words: &Words) -> String {
    let inside = words
        .iter()
        .filter(|((from, to), _)| circle.contains(from) && circle.contains(to));
    let lines: Vec<String> = inside
        .map(|((from, to), written)| format!("{from} uses `{written}` of {to}"))
        .collect();
    format!("a circle:\n    {}", lines.join("\n    "))
}

/// The scanner itself: a circle that it does not see would pass.
#[test]
fn the_graph_follows_uses_reexports_and_modules() {
    let file = |path: &str, text: &str| super::source::parse(path.to_owned(), text.to_owned());
    let sources = [
        file("src/lib.rs", "pub mod a;\npub mod b;\n"),
        file(
            "src/a/mod.rs",
            "mod one;\nmod two;\npub use one::One;\npub use two::*;\npub struct Own;\nfn f() { two::go(); }\n",
        ),
        file(
            "src/a/one.rs",
            "use super::{two::Two as Other, Own};\npub struct One;\n",
        ),
        file(
            "src/a/two.rs",
            "pub struct Two;\npub fn go() -> crate::b::Leaf { todo() }\n#[cfg(test)]\nmod tests { use super::super::One; }\n",
        ),
        file(
            "src/b.rs",
            "use crate::a::{self, One};\nuse std::fmt;\n// crate::a::Own\npub struct Leaf(a::Two);\n",
        ),
    ];
    let uses = graph::Graph::new(&sources).uses();
    let of = |path: &str| uses[path].keys().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(
        of("src/a/mod.rs"),
        ["src/a/two.rs"],
        "a re-export is no use, a call is"
    );
    assert_eq!(
        of("src/a/one.rs"),
        ["src/a/mod.rs", "src/a/two.rs"],
        "a group with a new name"
    );
    assert_eq!(of("src/a/two.rs"), ["src/b.rs"], "tests do not count");
    assert_eq!(
        of("src/b.rs"),
        ["src/a/one.rs", "src/a/two.rs"],
        "through `a`, not to it"
    );
    let folders = by_folder(&uses);
    let top = &folders["src"].0;
    assert_eq!(
        graph::circles(top),
        [BTreeSet::from(["a".to_owned(), "b".to_owned()])]
    );
    assert!(graph::circles(&folders["src/a"].0).is_empty());
}
