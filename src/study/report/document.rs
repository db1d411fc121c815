//! The report as a list of sections, before it is Markdown or HTML.
//!
//! All text is plain: what it holds is escaped where it is written.

use crate::study::report::charts::Chart;
use crate::study::results::claims::Claim;

/// Folder of the charts beside the report.
pub const CHARTS_FOLDER: &str = "charts";

/// The whole report.
#[derive(Debug, Clone)]
pub struct Document<'a> {
    /// Its heading.
    pub title: String,
    /// In reading order.
    pub sections: Vec<Section<'a>>,
}

/// Blocks under a heading.
#[derive(Debug, Clone)]
pub struct Section<'a> {
    /// The heading.
    pub title: String,
    /// In reading order.
    pub blocks: Vec<Block<'a>>,
}

/// A piece of the report.
#[derive(Debug, Clone)]
pub enum Block<'a> {
    /// A paragraph.
    Text(String),
    /// Claims with their answers.
    Claims(Vec<Claim>),
    /// A table.
    Table(Table),
    /// A chart with its caption and command.
    Chart(&'a Chart),
    /// Points.
    List(Vec<String>),
}

/// Rows of text under a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// What it shows.
    pub caption: String,
    /// Names of the columns; the first one names the rows.
    pub header: Vec<String>,
    /// As long as the header, each.
    pub rows: Vec<Row>,
    /// What a reader must know of some cells, such as why they are empty.
    pub notes: Vec<String>,
}

/// One row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Name of the row, then its values.
    pub cells: Vec<String>,
    /// Whether it stands out.
    pub emphasis: Emphasis,
}

/// Whether a row stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emphasis {
    /// As most rows.
    None,
    /// What the study is about.
    Strong,
}
