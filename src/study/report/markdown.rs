//! The report as GitHub-flavoured Markdown, with the charts and their commands as files beside it.

use super::document::{Block, CHARTS_FOLDER, Document, Emphasis, Row, Table};
use crate::printable::printable;
use crate::study::report::charts::Chart;
use crate::study::results::claims::Claim;

/// The text of `report.md`.
#[must_use]
pub fn render(document: &Document) -> String {
    let mut text = format!("# {}\n", escaped(&document.title));
    for section in &document.sections {
        text.push_str(&format!("\n## {}\n", escaped(&section.title)));
        for block in &section.blocks {
            text.push('\n');
            text.push_str(&render_block(block));
        }
    }
    text
}

fn render_block(block: &Block) -> String {
    match block {
        Block::Text(paragraph) => format!("{}\n", escaped(paragraph)),
        Block::List(items) => bullets(items),
        Block::Claims(claims) => {
            let line = |claim: &Claim| {
                let (title, sentence) = (escaped(&claim.title), escaped(&claim.sentence));
                format!("- **{}**: {title}. {sentence}\n", claim.verdict.word())
            };
            claims.iter().map(line).collect()
        }
        Block::Table(table) => render_table(table),
        Block::Chart(chart) => render_chart(chart),
    }
}

fn bullets(items: &[String]) -> String {
    items
        .iter()
        .map(|item| format!("- {}\n", escaped(item)))
        .collect()
}

fn render_table(table: &Table) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let row = |row: &Row| {
        let mut cells: Vec<String> = row.cells.iter().map(|cell| escaped(cell)).collect();
        if row.emphasis == Emphasis::Strong
            && let Some(name) = cells.first_mut()
        {
            *name = format!("**{name}**");
        }
        line(&cells)
    };
    let header: Vec<String> = table.header.iter().map(|cell| escaped(cell)).collect();
    let alignment = |index: usize| if index == 0 { "---" } else { "--:" };
    let alignment: Vec<&str> = (0..header.len()).map(alignment).collect();
    let mut text = format!("{}\n\n{}", escaped(&table.caption), line(&header));
    text.push_str(&format!("|{}|\n", alignment.join("|")));
    text.extend(table.rows.iter().map(row));
    if !table.notes.is_empty() {
        text.push('\n');
        text.push_str(&bullets(&table.notes));
    }
    text
}

fn render_chart(chart: &Chart) -> String {
    let description = &chart.description;
    let (title, caption) = (escaped(&description.title), escaped(&description.caption));
    let (name, command) = (&description.name, &chart.command);
    format!("![{title}]({CHARTS_FOLDER}/{name}.svg)\n\n**{title}.** {caption}\n\n    {command}\n")
}

/// Text without any of Markdown's marks, as GitHub reads them: no emphasis, link, formula, table cell or HTML. A line break,
/// which would end a table's row, is a space; other control characters are written out.
fn escaped(text: &str) -> String {
    let one_line = text.replace(['\n', '\r'], " ");
    let mut escaped = String::with_capacity(text.len());
    for character in printable(&one_line).to_string().chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '#' | '\\' | '~' | '$' => {
                escaped.push('\\');
                escaped.push(character);
            }
            _ => escaped.push(character),
        }
    }
    // Bare addresses become links by themselves.
    escaped
        .replace("://", "&#58;//")
        .replace("www.", "www&#46;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_breaks_in_text_stay_text() {
        assert_eq!(escaped("a|b *c* <d>\n"), "a\\|b \\*c\\* &lt;d> ");
        assert_eq!(
            escaped("http://evil www.evil [a](b) $x$ \u{1b}[0m"),
            "http&#58;//evil www&#46;evil \\[a\\](b) \\$x\\$ \\\\u{1b}\\[0m"
        );
        let table = Table {
            caption: "c".to_owned(),
            header: vec!["method".to_owned(), "x".to_owned()],
            rows: vec![Row {
                cells: vec!["a|b".to_owned(), "1".to_owned()],
                emphasis: Emphasis::Strong,
            }],
            notes: vec!["why".to_owned()],
        };
        assert_eq!(
            render_table(&table),
            "c\n\n| method | x |\n|---|--:|\n| **a\\|b** | 1 |\n\n- why\n"
        );
    }
}
