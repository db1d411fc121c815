//! Paths as people write them: `~` is the home folder, `$NAME` and `${NAME}` are environment variables, `$$` is a dollar
//! sign. Python's `os.path.expanduser` and `expandvars`, but what cannot be expanded is an error: a folder named `~` or
//! `$DATA` is never what was meant. Opens nothing.

use std::path::{Component, Path, PathBuf};

use super::secret;

/// The path with home folder and variables in place.
///
/// # Errors
/// What cannot be expanded, and the remedy after a semicolon.
pub fn expand(text: &str) -> Result<String, String> {
    expand_with(text, &|name| std::env::var(name).ok())
}

/// A path as [`expand`] reads it back unchanged.
pub(super) fn written(path: &str) -> String {
    let escaped = path.replace('$', "$$");
    if escaped.starts_with('~') {
        format!("./{escaped}")
    } else {
        escaped
    }
}

/// A path whose `~` alone is expanded: for words that a shell never sees and that may hold other dollar signs.
pub(super) fn expand_home(text: &str) -> Result<String, String> {
    match text {
        _ if text == "~" || text.starts_with("~/") => Ok(format!(
            "{}{}",
            home(&|name| std::env::var(name).ok())?,
            &text[1..]
        )),
        _ => Ok(text.to_owned()),
    }
}

/// An absolute path without `.`, `..` and doubled separators, by its text alone: links are not followed.
pub(super) fn plain(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

fn expand_with(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    if text.contains('\0') {
        return Err("holds a zero byte; no file name does".to_owned());
    }
    let (mut path, mut rest) = (String::new(), text);
    if let Some(after) = text.strip_prefix('~') {
        if !after.is_empty() && !after.starts_with(['/', '\\']) {
            let user = after.split(['/', '\\']).next().unwrap_or_default();
            return Err(format!(
                "`~{user}` is not expanded; write the whole path, or ./~{user} for a file of that name"
            ));
        }
        path = home(variable)?;
        rest = after;
    }
    while let Some((before, after)) = rest.split_once('$') {
        path.push_str(before);
        let (name, after) = match name(after)? {
            Name::Variable(name, after) => (name, after),
            Name::None(literal, after) => {
                path.push_str(literal);
                rest = after;
                continue;
            }
        };
        path.push_str(&value(name, variable)?);
        rest = after;
    }
    path.push_str(rest);
    Ok(path)
}

/// What follows a dollar sign.
enum Name<'a> {
    /// A variable, and the text after it.
    Variable(&'a str, &'a str),
    /// No variable: what the dollar sign stands for, and the text after it.
    None(&'static str, &'a str),
}

fn name(after: &str) -> Result<Name<'_>, String> {
    if let Some(after) = after.strip_prefix('$') {
        return Ok(Name::None("$", after));
    }
    if let Some(inside) = after.strip_prefix('{') {
        let (name, after) = inside
            .split_once('}')
            .filter(|(name, _)| is_name(name))
            .ok_or("`${` is followed by no variable's name and `}`; write $$ for a dollar sign")?;
        return Ok(Name::Variable(name, after));
    }
    let end = after
        .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .unwrap_or(after.len());
    Ok(if is_name(&after[..end]) {
        Name::Variable(&after[..end], &after[end..])
    } else {
        Name::None("$", after)
    })
}

/// Whether this can be the name of an environment variable.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    !text.is_empty()
        && text.chars().all(plain)
        && !text.starts_with(|first: char| first.is_ascii_digit())
}

fn value(name: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    if secret::names_a_secret(name) {
        return Err(format!(
            "the environment variable `{name}` is not put into a path: by its name it holds a secret"
        ));
    }
    variable(name).filter(|value| !value.is_empty()).ok_or_else(|| {
        format!("the environment variable `{name}` is not set; set it, or write $$ for a dollar sign")
    })
}

fn home(variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    let home = set("HOME").or_else(|| set("USERPROFILE"));
    let home = home.ok_or("`~` has no meaning, because the environment variable `HOME` is not set; write the whole path")?;
    Ok(home.trim_end_matches(['/', '\\']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        expand_with(text, &|name| match name {
            "HOME" => Some("/home/ann lee/".to_owned()),
            "DATA" => Some("/big disk/数据".to_owned()),
            "EMPTY" => Some(String::new()),
            "OPENAI_API_KEY" => Some("sk-live-0123456789abcdef".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn home_and_variables_are_put_in() {
        for (text, path) in [
            ("~", "/home/ann lee"),
            ("~/m/a b", "/home/ann lee/m/a b"),
            ("$DATA/a.json", "/big disk/数据/a.json"),
            ("${DATA}_2/a", "/big disk/数据_2/a"),
            ("~/$DATA", "/home/ann lee//big disk/数据"),
            ("a/~/b", "a/~/b"),
            ("./~", "./~"),
            ("price$.json", "price$.json"),
            ("5$ 6$", "5$ 6$"),
            ("$$DATA", "$DATA"),
            ("$5", "$5"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(path), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_an_error() {
        for (text, part) in [
            ("$NONE/a", "`NONE` is not set"),
            ("a/${NONE}", "`NONE` is not set"),
            ("$EMPTY/a", "`EMPTY` is not set"),
            ("~bob/a", "`~bob` is not expanded"),
            ("${DATA", "no variable's name"),
            ("${DATA:-x}", "no variable's name"),
            ("$OPENAI_API_KEY", "by its name it holds a secret"),
            ("a\0b", "zero byte"),
        ] {
            let message = expanded(text).expect_err(text);
            assert!(
                message.contains(part) && !message.contains("sk-"),
                "{message}"
            );
        }
        assert!(expand_with("~/a", &|_| None).is_err());
    }

    #[test]
    fn a_written_path_reads_back_unchanged() {
        for path in ["a $5", "~x", "/a/$HOME/${b", "$$", "~", "~/a", "plain"] {
            let again = expanded(&written(path)).expect(path);
            let plain = again.strip_prefix("./").unwrap_or(&again);
            assert_eq!(plain, path);
        }
    }
}
