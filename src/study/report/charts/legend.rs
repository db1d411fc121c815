//! The legend below a chart, with each series' dashes and marker, which the plotting library's own legend does not show
//! together.

use kuva::plot::scatter::MarkerShape;
use kuva::render::color::Color;
use kuva::render::render::{PathData, Primitive, Scene, TextAnchor};

use super::style::{INK, Style};
use super::svg;

const SIDE: f64 = 24.0;
const LINE_HEIGHT: f64 = 22.0;
/// Length of the piece of line that shows dashes and marker.
const SAMPLE: f64 = 42.0;
const FONT_SIZE: u32 = 13;
/// Advance of a character in pixels: above the mean of the wide sans-serif fonts that the charts name first.
const CHARACTER: f64 = 8.2;
const GAP: f64 = 22.0;

/// Extends the scene downwards by the legend, in as many lines as it takes.
pub fn append(scene: &mut Scene, entries: &[(String, Style)]) {
    let color = |name: &str| Color::from(name);
    let right = scene.width - SIDE;
    let (mut x, mut y) = (SIDE, scene.height + LINE_HEIGHT / 2.0);
    for (name, style) in entries {
        let width = SAMPLE + 8.0 + CHARACTER * name.chars().count() as f64;
        if x + width > right && x > SIDE {
            x = SIDE;
            y += LINE_HEIGHT;
        }
        let stroke_dasharray = (!style.dash.is_empty()).then(|| style.dash.to_owned());
        scene.elements.push(Primitive::Line {
            x1: x,
            y1: y,
            x2: x + SAMPLE,
            y2: y,
            stroke: color(style.color),
            stroke_width: 2.0,
            stroke_dasharray,
        });
        let middle = x + SAMPLE / 2.0;
        scene.elements.extend(marker(style, middle, y));
        scene.elements.push(Primitive::Text {
            x: x + SAMPLE + 8.0,
            y: y + 4.5,
            content: svg::plain(name),
            size: FONT_SIZE,
            anchor: TextAnchor::Start,
            rotate: None,
            bold: false,
            color: Some(color(INK)),
        });
        x += width + GAP;
    }
    if !entries.is_empty() {
        scene.height = y + LINE_HEIGHT;
    }
}

/// The shapes that [`Style::number`] uses, as the plotting library draws them in the panels.
fn marker(style: &Style, x: f64, y: f64) -> Vec<Primitive> {
    let r = 4.5;
    let polygon = |corners: &[(f64, f64)]| {
        let corner = |(dx, dy): &(f64, f64)| format!("{:.1} {:.1}", x + r * dx, y + r * dy);
        let corners: Vec<String> = corners.iter().map(corner).collect();
        shape(format!("M{}Z", corners.join("L")), style, true)
    };
    let strokes = |ends: [(f64, f64); 2]| {
        let stroke = |(dx, dy): (f64, f64)| {
            let (dx, dy) = (r * dx, r * dy);
            format!("M{:.1} {:.1}L{:.1} {:.1}", x - dx, y - dy, x + dx, y + dy)
        };
        shape(ends.map(stroke).concat(), style, false)
    };
    vec![match style.marker {
        MarkerShape::Square => polygon(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
        MarkerShape::Triangle => polygon(&[(0.0, -1.1), (1.0, 0.8), (-1.0, 0.8)]),
        MarkerShape::TriangleDown => polygon(&[(0.0, 1.1), (1.0, -0.8), (-1.0, -0.8)]),
        MarkerShape::Diamond => polygon(&[(0.0, -1.2), (1.2, 0.0), (0.0, 1.2), (-1.2, 0.0)]),
        MarkerShape::Cross => strokes([(0.9, 0.9), (0.9, -0.9)]),
        MarkerShape::Plus => strokes([(1.1, 0.0), (0.0, 1.1)]),
        _ => Primitive::Circle {
            cx: x,
            cy: y,
            r,
            fill: Color::from(style.color),
            fill_opacity: None,
            stroke: None,
            stroke_width: None,
        },
    }]
}

fn shape(d: String, style: &Style, filled: bool) -> Primitive {
    Primitive::Path(Box::new(PathData {
        d,
        fill: filled.then(|| Color::from(style.color)),
        stroke: Color::from(style.color),
        stroke_width: if filled { 0.5 } else { 2.0 },
        opacity: None,
        stroke_dasharray: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_legends_break_into_lines_inside_the_picture() {
        let mut scene = Scene::new(430.0, 100.0);
        let entries: Vec<(String, Style)> = (0..7)
            .map(|index| (format!("method number {index}"), Style::number(index)))
            .collect();
        append(&mut scene, &entries);
        let texts: Vec<(f64, f64)> = scene
            .elements
            .iter()
            .filter_map(|element| match element {
                Primitive::Text { x, y, .. } => Some((*x, *y)),
                _ => None,
            })
            .collect();
        assert_eq!(texts.len(), 7, "each has a name");
        for (x, y) in &texts {
            assert!(x + 15.0 * CHARACTER <= 430.0 - SIDE && *y < scene.height);
        }
        let lines: std::collections::BTreeSet<i64> = texts.iter().map(|(_, y)| *y as i64).collect();
        assert_eq!(
            lines.len(),
            4,
            "two entries of 173 pixels and their gap fit into 382"
        );
    }
}
