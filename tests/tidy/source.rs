//! Source files as the rules see them: code apart from comments, literals and tests.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use regex::Regex;

/// A text file of the repository.
pub struct SourceFile {
    /// Relative to the root, with `/`.
    pub path: String,
    /// As it stands in the file.
    pub text: String,
    /// Rust only: comments, the insides of literals and test items replaced by spaces; lines keep their numbers.
    pub code: String,
    /// Rust only: the insides of string literals outside tests.
    pub literals: Vec<String>,
    /// Lines that are not inside a test item.
    pub lines: usize,
}

/// A function with a body.
pub struct Function<'a> {
    pub name: &'a str,
    pub public: bool,
    /// 1-based line of its `fn`.
    pub line: usize,
    /// From `fn` to its closing brace.
    pub lines: usize,
    /// Argument declarations except `self`.
    pub arguments: Vec<&'a str>,
}

/// The files under `folder` of the repository with this extension, in order of their paths.
pub fn files(folder: &str, extension: &str) -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    collect(&root.join(folder), extension, &mut paths);
    assert!(
        !paths.is_empty() || folder != "src",
        "no file found: every rule would pass"
    );
    paths.sort();
    let relative = |path: &Path| {
        let path = path.strip_prefix(root).expect("found under the root");
        path.components()
            .map(|part| part.as_os_str().to_string_lossy())
            .collect::<Vec<_>>()
            .join("/")
    };
    paths
        .iter()
        .map(|path| read(relative(path), path))
        .collect()
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            collect(&path, extension, found);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
}

fn read(relative: String, path: &Path) -> SourceFile {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{relative}: {error}"));
    if !relative.ends_with(".rs") {
        return SourceFile {
            path: relative,
            lines: text.lines().count(),
            text,
            code: String::new(),
            literals: vec![],
        };
    }
    parse(relative, text)
}

/// Separates code from comments, literals and tests.
pub fn parse(path: String, text: String) -> SourceFile {
    let (mut code, strings) = blank_comments_and_literals(&text);
    let tests = if path.ends_with("/tests.rs") || path.ends_with("_tests.rs") {
        std::iter::once(0..code.len()).collect()
    } else {
        test_items(&code)
    };
    let mut lines = text.lines().count();
    for span in &tests {
        lines -= code[span.clone()].lines().count();
        let spaces: String = code[span.clone()]
            .chars()
            .map(|c| if c == '\n' { '\n' } else { ' ' })
            .collect();
        code.replace_range(span.clone(), &spaces);
    }
    let outside_tests = |span: &&Range<usize>| !tests.iter().any(|test| test.contains(&span.start));
    let literals = strings
        .iter()
        .filter(outside_tests)
        .map(|span| text[span.clone()].to_owned())
        .collect();
    SourceFile {
        path,
        text,
        code,
        literals,
        lines,
    }
}

/// The text with every byte of comments and literals replaced by a space, and the spans of the string literals.
fn blank_comments_and_literals(text: &str) -> (String, Vec<Range<usize>>) {
    let token = Regex::new(concat!(
        r#"(?s)//[^\n]*|/\*.*?\*/"#,                             // comments
        r##"|\b[bc]?r"(?P<r0>[^"]*)"|\b[bc]?r#"(?P<r1>.*?)"#"##, // raw strings
        r#"|"(?P<s>(?:\\.|[^"\\])*)""#,                          // strings
        r"|'(?:\\(?:u\{[^}]*\}|x..|.)|[^'\\\n])'",               // characters, not lifetimes
    ))
    .expect("the pattern is constant");
    let mut code = text.as_bytes().to_vec();
    let mut strings = Vec::new();
    for found in token.captures_iter(text) {
        let whole = found.get(0).expect("group 0 is the match").range();
        let string = ["r0", "r1", "s"].iter().find_map(|name| found.name(name));
        strings.extend(string.map(|string| string.range()));
        code[whole]
            .iter_mut()
            .filter(|byte| **byte != b'\n')
            .for_each(|byte| *byte = b' ');
    }
    (
        String::from_utf8(code).expect("whole characters were replaced"),
        strings,
    )
}

/// Spans from `#[cfg(test)]` or `#[test]` to the end of the item below.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    for (start, attribute) in code
        .match_indices("#[cfg(test)]")
        .chain(code.match_indices("#[test]"))
    {
        let body = start + attribute.len();
        let stop = code[body..]
            .find(['{', ';'])
            .map_or(code.len(), |offset| body + offset);
        let end = if code[stop..].starts_with('{') {
            closing(code, stop)
        } else {
            stop
        };
        let span = start..(end + 1).min(code.len());
        if !spans.iter().any(|known| known.contains(&span.start)) {
            spans.push(span);
        }
    }
    spans
}

/// Position of the brace or parenthesis that closes the one at `open`.
pub fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (offset, character) in code[open..].char_indices() {
        match character {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + offset;
        }
    }
    code.len()
}

impl SourceFile {
    /// Functions with a body outside tests.
    pub fn functions(&self) -> Vec<Function<'_>> {
        let head = Regex::new(r"(?m)^[^\n;{}]*?\bfn\s+(\w+)").expect("the pattern is constant");
        let mut found = Vec::new();
        for one in head.captures_iter(&self.code) {
            let name = one.get(1).expect("the pattern has one group");
            let Some(open) = argument_list(&self.code, name.end()) else {
                continue;
            };
            let end_of_arguments = closing(&self.code, open);
            let Some(offset) = self.code[end_of_arguments..].find(['{', ';']) else {
                continue;
            };
            let stop = end_of_arguments + offset;
            if self.code[stop..].starts_with(';') {
                continue; // a trait's method without a body
            }
            let body_end = closing(&self.code, stop);
            let line_of = |position: usize| self.code[..position].matches('\n').count() + 1;
            found.push(Function {
                name: name.as_str(),
                public: one[0].trim_start().starts_with("pub "),
                line: line_of(name.start()),
                lines: line_of(body_end.min(self.code.len())) - line_of(name.start()) + 1,
                arguments: split_arguments(&self.code[open + 1..end_of_arguments]),
            });
        }
        found
    }

    /// Modules `x` in `crate::x` and `crate::{x, ...}` outside tests.
    pub fn imported_modules(&self) -> Vec<&str> {
        let mut modules = Vec::new();
        for (position, found) in self.code.match_indices("crate::") {
            let rest = &self.code[position + found.len()..];
            if rest.starts_with('{') {
                let group = split_arguments(&rest[1..closing(rest, 0)]);
                modules.extend(group.into_iter().flat_map(stages));
            } else {
                modules.extend(stages(rest));
            }
        }
        modules.sort_unstable();
        modules.dedup();
        modules
    }
}

/// `[dataset]` for `data::dataset::Row`, `[reward, teacher]` for `actions::{reward, teacher}`, `[record]` for `record::Group`.
fn stages(path: &str) -> Vec<&str> {
    let top = first_word(path);
    let below = path[top.len()..].strip_prefix("::");
    match below {
        Some(below) if super::FLOORS.contains(&top) && below.starts_with('{') => {
            let group = split_arguments(&below[1..closing(below, 0)]);
            group.into_iter().map(first_word).collect()
        }
        // A type that the folder's own module exports, such as `learner::Learner`.
        Some(below)
            if super::FLOORS.contains(&top) && below.starts_with(|c: char| c.is_lowercase()) =>
        {
            vec![first_word(below)]
        }
        _ => vec![top],
    }
}

fn first_word(text: &str) -> &str {
    text.split(|character: char| !character.is_alphanumeric() && character != '_')
        .next()
        .unwrap_or("")
}

/// The opening parenthesis of the arguments, past generics such as `<F: Fn(&str) -> bool>`.
fn argument_list(code: &str, name_end: usize) -> Option<usize> {
    let mut angles = 0;
    let mut previous = ' ';
    for (offset, character) in code[name_end..].char_indices() {
        match character {
            '<' => angles += 1,
            '>' if previous != '-' => angles -= 1,
            '(' if angles == 0 => return Some(name_end + offset),
            _ => {}
        }
        previous = character;
    }
    None
}

/// As [`split_list`], the receiver `self` left out.
fn split_arguments(list: &str) -> Vec<&str> {
    let receiver =
        Regex::new(r"^(&\s*('\w+\s+)?)?(mut\s+)?self\b").expect("the pattern is constant");
    let mut parts = split_list(list);
    parts.retain(|part| !receiver.is_match(part));
    parts
}

/// Parts between the commas that are in no bracket; empty parts left out.
pub fn split_list(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut previous) = (0, 0, ' ');
    let mut parts = Vec::new();
    for (position, character) in list.char_indices() {
        match character {
            '(' | '[' | '{' | '<' => depth += 1,
            '>' if previous == '-' || previous == '=' => {}
            ')' | ']' | '}' | '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(list[start..position].trim());
                start = position + 1;
            }
            _ => {}
        }
        previous = character;
    }
    parts.push(list[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}
