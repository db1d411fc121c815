//! The report as one HTML page that needs nothing else: style sheet and charts in line, no script.

use super::document::{Block, Document, Emphasis, Row, Section, Table};
use crate::study::report::charts::Chart;
use crate::study::report::charts::svg::escaped;
use crate::study::results::claims::{Claim, Verdict};

const STYLE: &str = include_str!("page.css");

/// The text of `report.html`.
#[must_use]
pub fn render(document: &Document) -> String {
    let title = escaped(&document.title);
    let sections: String = document.sections.iter().map(render_section).collect();
    let link = |section: &Section| {
        let title = escaped(&section.title);
        format!(
            "<li><a href=\"#{}\">{title}</a></li>\n",
            anchor(&section.title)
        )
    };
    let links: String = document.sections.iter().map(link).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body>\n<main>\n<h1>{title}</h1>\n<nav aria-label=\"Sections\"><ul>\n{links}</ul></nav>\n{sections}</main>\n</body>\n</html>\n"
    )
}

fn anchor(title: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    title.chars().map(plain).collect()
}

fn render_section(section: &Section) -> String {
    let blocks: String = section.blocks.iter().map(render_block).collect();
    let (id, title) = (anchor(&section.title), escaped(&section.title));
    format!("<section id=\"{id}\">\n<h2>{title}</h2>\n{blocks}</section>\n")
}

fn render_block(block: &Block) -> String {
    match block {
        Block::Text(paragraph) => format!("<p>{}</p>\n", escaped(paragraph)),
        Block::List(items) => list(items),
        Block::Claims(claims) => {
            let claims: String = claims.iter().map(render_claim).collect();
            format!("<ul class=\"claims\">\n{claims}</ul>\n")
        }
        Block::Table(table) => render_table(table),
        Block::Chart(chart) => render_chart(chart),
    }
}

fn list(items: &[String]) -> String {
    let items: String = items
        .iter()
        .map(|item| format!("<li>{}</li>\n", escaped(item)))
        .collect();
    format!("<ul>\n{items}</ul>\n")
}

fn render_claim(claim: &Claim) -> String {
    let class = match claim.verdict {
        Verdict::Holds => "holds",
        Verdict::DoesNotHold => "fails",
        Verdict::Open => "open",
    };
    let (title, sentence) = (escaped(&claim.title), escaped(&claim.sentence));
    let word = claim.verdict.word();
    format!(
        "<li><span class=\"verdict {class}\">{word}</span> <strong>{title}.</strong> {sentence}</li>\n"
    )
}

fn render_table(table: &Table) -> String {
    let cell = |(index, cell): (usize, &String)| {
        let cell = escaped(cell);
        if index == 0 {
            format!("<th scope=\"row\">{cell}</th>")
        } else {
            format!("<td>{cell}</td>")
        }
    };
    let row = |row: &Row| {
        let cells: String = row.cells.iter().enumerate().map(cell).collect();
        let class = match row.emphasis {
            Emphasis::None => "",
            Emphasis::Strong => " class=\"strong\"",
        };
        format!("<tr{class}>{cells}</tr>\n")
    };
    let column = |name: &String| format!("<th scope=\"col\">{}</th>", escaped(name));
    let header: String = table.header.iter().map(column).collect();
    let rows: String = table.rows.iter().map(row).collect();
    let caption = escaped(&table.caption);
    let notes = if table.notes.is_empty() {
        String::new()
    } else {
        format!("<div class=\"notes\">{}</div>\n", list(&table.notes))
    };
    // A region that scrolls must be reachable by keyboard.
    format!(
        "<p class=\"caption\">{caption}</p>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\">\n<table>\n\
         <thead><tr>{header}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n{notes}"
    )
}

fn render_chart(chart: &Chart) -> String {
    let description = &chart.description;
    let (title, caption) = (escaped(&description.title), escaped(&description.caption));
    let command = escaped(&chart.command);
    format!(
        "<figure>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{title}\">\n{}</div>\n\
         <figcaption><strong>{title}.</strong> {caption}</figcaption>\n<pre>{command}</pre>\n</figure>\n",
        chart.svg
    )
}
