//! Which file uses which: every path in the code, followed through `use`, re-exports and modules to the file that defines it.
//!
//! `mod x;` and `pub use x::Y;` are no uses: a folder's `mod.rs` names its parts without depending on them. A method that
//! another file implements is not seen, only paths are.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::source::{SourceFile, closing, files, split_list};

/// Names from the root of the crate: `["data", "prompt"]`.
type Path = Vec<String>;

/// A name that a `use` brings into a file.
struct Import {
    public: bool,
    /// As written, with `crate`, `self` and `super`.
    path: Path,
    /// The last word of the path, or what stands behind `as`; `*` for all names.
    name: String,
}

struct Module<'a> {
    file: &'a SourceFile,
    imports: Vec<Import>,
    /// The code without its `use` lines.
    body: String,
}

/// What a path leads to.
enum Target {
    Module(Path),
    /// An item of the module at this path.
    Item(Path),
}

/// For each file of `src/` the files that it uses, each with the first path that says so.
pub type Uses = BTreeMap<String, BTreeMap<String, String>>;

pub struct Graph<'a> {
    modules: BTreeMap<Path, Module<'a>>,
}

/// The uses between the files under `src/`, tests and `main.rs` left out.
pub fn uses() -> Uses {
    let sources = files("src", "rs");
    Graph::new(&sources).uses()
}

impl<'a> Graph<'a> {
    pub fn new(sources: &'a [SourceFile]) -> Self {
        let counts =
            |file: &&SourceFile| file.path != "src/main.rs" && !file.path.ends_with("/tests.rs");
        let module = |file: &'a SourceFile| {
            let (imports, body) = imports(&file.code);
            let module = Module {
                file,
                imports,
                body,
            };
            (module_path(&file.path), module)
        };
        Self {
            modules: sources.iter().filter(counts).map(module).collect(),
        }
    }

    pub fn uses(&self) -> Uses {
        let all = self.modules.iter();
        all.map(|(path, module)| (module.file.path.clone(), self.uses_of(path, module)))
            .collect()
    }

    fn uses_of(&self, here: &Path, module: &Module) -> BTreeMap<String, String> {
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        let mut add = |target: Option<Target>, written: &[String]| {
            if let Some(Target::Item(path)) = target
                && path != *here
                && let Some(used) = self.modules.get(&path)
            {
                let used = used.file.path.clone();
                found.entry(used).or_insert_with(|| written.join("::"));
            }
        };
        let mut names: BTreeMap<&str, Path> = BTreeMap::new();
        for import in &module.imports {
            let Some((start, rest)) = self.start(here, &import.path) else {
                continue;
            };
            let target = self.resolve(start.clone(), rest, 0);
            if let Some(Target::Module(path)) = &target {
                names.insert(&import.name, path.clone());
            }
            if import.name == "*"
                && let Some(Target::Module(path)) = target
            {
                add(Some(Target::Item(path)), &import.path);
            } else if !(import.public && start == *here) {
                add(target, &import.path);
            }
        }
        let path = Regex::new(r"(?:^|[^\w:])(\w+(?:\s*::\s*\w+)+)").expect("valid");
        for written in path.captures_iter(&module.body) {
            let written: Path = written[1]
                .split("::")
                .map(|word| word.trim().to_owned())
                .collect();
            let target = match names.get(written[0].as_str()) {
                Some(module) => self.resolve(module.clone(), &written[1..], 0),
                None => self
                    .start(here, &written)
                    .and_then(|(start, rest)| self.resolve(start, rest, 0)),
            };
            add(target, &written);
        }
        found
    }

    /// Where a path begins and what of it is left; `None` if it leads out of the crate.
    fn start<'p>(&self, here: &Path, written: &'p [String]) -> Option<(Path, &'p [String])> {
        let mut start = here.clone();
        match written.first()?.as_str() {
            "crate" => Some((Path::new(), &written[1..])),
            "self" => Some((start, &written[1..])),
            "super" => {
                let ups = written.iter().take_while(|word| *word == "super").count();
                start.truncate(here.len().checked_sub(ups)?);
                Some((start, &written[ups..]))
            }
            first => {
                let mut child = here.clone();
                child.push(first.to_owned());
                self.modules
                    .contains_key(&child)
                    .then_some((start, written))
            }
        }
    }

    /// Goes down the modules and through what they re-export.
    fn resolve(&self, mut at: Path, mut rest: &[String], depth: usize) -> Option<Target> {
        while let Some(next) = rest.first() {
            at.push(next.clone());
            if !self.modules.contains_key(&at) {
                at.pop();
                break;
            }
            rest = &rest[1..];
        }
        let module = self.modules.get(&at)?;
        let Some(name) = rest.first().filter(|name| *name != "*") else {
            return Some(Target::Module(at));
        };
        // A circle of re-exports would not compile; the limit is for a scanner that errs.
        if depth < 8 {
            if let Some(import) = module.imports.iter().find(|import| import.name == *name) {
                let (start, path) = self.start(&at, &import.path)?;
                let path: Path = path.iter().chain(&rest[1..]).cloned().collect();
                return self.resolve(start, &path, depth + 1);
            }
            for import in module.imports.iter().filter(|import| import.name == "*") {
                let Some((start, path)) = self.start(&at, &import.path) else {
                    continue;
                };
                let path: Path = path[..path.len() - 1].iter().chain(rest).cloned().collect();
                if let Some(Target::Item(found)) = self.resolve(start, &path, depth + 1)
                    && self.modules[&found].defines(name)
                {
                    return Some(Target::Item(found));
                }
            }
        }
        Some(Target::Item(at))
    }
}

impl Module<'_> {
    fn defines(&self, name: &str) -> bool {
        let kinds = "struct|enum|fn|trait|type|const|static|union";
        let pattern = Regex::new(&format!(r"\b({kinds})\s+{name}\b")).expect("valid");
        pattern.is_match(&self.file.code)
    }
}

/// `["data", "prompt"]` for `src/data/prompt/mod.rs`, nothing for `src/lib.rs`.
fn module_path(file: &str) -> Path {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs");
    let words = path
        .split('/')
        .filter(|word| *word != "mod" && *word != "lib");
    words.map(str::to_owned).collect()
}

/// The `use` declarations of the code, and the code without them.
fn imports(code: &str) -> (Vec<Import>, String) {
    let declaration = Regex::new(r"\b(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);").expect("valid");
    let mut found = Vec::new();
    for one in declaration.captures_iter(code) {
        for (path, name) in flatten(&one[2]) {
            let public = one.get(1).is_some();
            found.push(Import { public, path, name });
        }
    }
    (found, declaration.replace_all(code, ";").into_owned())
}

/// `a::{self, b as c}` as `(a, "a")` and `(a::b, "c")`.
fn flatten(text: &str) -> Vec<(Path, String)> {
    let text = text.trim();
    let words = |text: &str| -> Path {
        let words = text
            .split("::")
            .map(str::trim)
            .filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    };
    let Some(open) = text.find('{') else {
        let (path, renamed) = match text.split_once(" as ") {
            Some((path, name)) => (path, Some(name.trim().to_owned())),
            None => (text, None),
        };
        let path = words(path);
        let name = renamed.or_else(|| path.last().cloned());
        return vec![(path, name.unwrap_or_default())];
    };
    let before = words(&text[..open]);
    let inside = &text[open + 1..closing(text, open)];
    let mut found = Vec::new();
    for (path, name) in split_list(inside).into_iter().flat_map(flatten) {
        let of_itself = path.len() == 1 && path[0] == "self";
        let name = match before.last() {
            Some(last) if of_itself && name == "self" => last.clone(),
            _ => name,
        };
        let path = if of_itself { Path::new() } else { path };
        found.push((before.iter().chain(&path).cloned().collect(), name));
    }
    found
}

/// Circles among these points: groups that reach each other, in order.
pub fn circles(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<BTreeSet<String>> {
    let reach = |from: &str| {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let mut open: Vec<&str> = vec![from];
        while let Some(point) = open.pop() {
            for next in edges.get(point).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> =
        edges.keys().map(|point| (point, reach(point))).collect();
    let mut found: BTreeSet<BTreeSet<String>> = BTreeSet::new();
    for (point, seen) in &reached {
        if seen.contains(*point) {
            let back =
                |other: &&String| reached.get(other).is_some_and(|seen| seen.contains(*point));
            found.insert(seen.iter().filter(back).cloned().collect());
        }
    }
    found.into_iter().collect()
}
