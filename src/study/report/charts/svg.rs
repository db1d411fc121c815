//! The last touch on a rendered chart: it scales, follows light and dark, says what it shows, and can stand beside other
//! charts in one page.

use kuva::backend::svg::SvgBackend;
use kuva::render::render::Scene;

use super::style::PAPER;
use crate::printable::printable;

/// What a chart is for those who cannot see it, and what keeps its inner names apart from other charts'.
#[derive(Debug, Clone)]
pub struct Description {
    /// File stem.
    pub name: String,
    /// One line.
    pub title: String,
    /// What to read from it.
    pub caption: String,
}

/// Paper and ink for a chart that is opened alone; a page that holds it in line sets the same classes.
const STYLE: &str = "<style>.study-chart{color:#1f2328}.study-paper{fill:#ffffff}\
@media (prefers-color-scheme:dark){.study-chart{color:#e6edf3}.study-paper{fill:#15191f}}</style>";

/// What every chart begins with.
pub const MARK: &str = "<svg class=\"study-chart\" ";

/// Pixels below which a chart of a whole row of panels is not shrunk.
const NARROWEST: f64 = 680.0;

/// The scene as SVG text.
#[must_use]
pub fn text(scene: &Scene, description: &Description) -> String {
    let rendered = SvgBackend::new().render_scene(scene);
    let Description {
        name,
        title,
        caption,
    } = description;
    // The ids of clip paths are the same in every chart, and a page has one name space.
    let rendered = rendered
        .replace("kuva-clip-", &format!("{name}-clip-"))
        .replace(
            &format!("fill=\"{PAPER}\""),
            "class=\"study-paper\" fill=\"#ffffff\"",
        );
    let (width, height) = (scene.width, scene.height);
    // In a narrow page a wide chart scrolls instead of becoming unreadable.
    let narrowest = width.min(NARROWEST);
    let opening = format!(
        "{MARK}style=\"min-width:{narrowest:.0}px\" role=\"img\" aria-labelledby=\"{name}-title {name}-desc\" viewBox=\"0 0 {width:.0} {height:.0}\" "
    );
    let inside = format!(
        "<title id=\"{name}-title\">{}</title><desc id=\"{name}-desc\">{}</desc>{STYLE}",
        escaped(title),
        escaped(caption)
    );
    let rendered = rendered.replacen("<svg ", &opening, 1);
    match rendered.find('>') {
        Some(end) => format!("{}{inside}{}\n", &rendered[..=end], &rendered[end + 1..]),
        None => rendered,
    }
}

/// Text for XML and HTML, also within an attribute in double quotes. Control characters, which XML forbids even as
/// entities, are written out.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in printable(text).to_string().chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A label that the plotting library takes as it is, and escapes: `$` would begin a formula.
#[must_use]
pub fn plain(label: &str) -> String {
    printable(label).to_string().replace('$', "\\$")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kuva::render::render::{Primitive, TextAnchor};

    #[test]
    fn labels_are_text_and_cannot_break_the_picture() {
        let mut scene = Scene::new(100.0, 50.0);
        scene.elements.push(Primitive::Text {
            x: 5.0,
            y: 5.0,
            content: plain("a < b & $c$"),
            size: 12,
            anchor: TextAnchor::Start,
            rotate: None,
            bold: false,
            color: None,
        });
        let description = Description {
            name: "x".to_owned(),
            title: "<t>\u{1b}'".to_owned(),
            caption: "\"c\"".to_owned(),
        };
        let svg = text(&scene, &description);
        assert!(svg.contains(">a &lt; b &amp; $c$</text>"), "{svg}");
        assert!(svg.contains("viewBox=\"0 0 100 50\""), "{svg}");
        assert!(
            svg.contains("<title id=\"x-title\">&lt;t&gt;\\u{1b}'</title>"),
            "{svg}"
        );
        assert!(
            svg.contains("<desc id=\"x-desc\">&quot;c&quot;</desc>"),
            "{svg}"
        );
    }
}
