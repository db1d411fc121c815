//! Reward and accuracy of the paper's methods over training (its Fig. 3).

use super::chart::{Chart, command_of};
use super::curves::{ACCURACY, Against, Quantity, REWARD, axes, series};
use super::figure::{Grid, Panel, draw};
use super::style::Style;
use super::styles::Styles;
use super::svg::Description;
use crate::study::results::collection::Study;
use crate::study::results::result::{Domain, Family, Method, Role};

/// Reward against steps, samples and time: a panel per family.
pub(super) fn rewards(study: &Study, styles: &Styles) -> Vec<Chart> {
    let what = "Mean reward of the policy's own samples";
    let rows = [(Quantity::Reward, "")];
    let build = |against| paper_chart(study, styles, (REWARD, what), &rows, against);
    Against::ALL.into_iter().filter_map(build).collect()
}

/// Accuracy against steps, samples and time: a panel per family, of training and of both domains.
pub(super) fn accuracies(study: &Study, styles: &Styles) -> Vec<Chart> {
    let what = "Accuracy of the policy's own training samples, and on held-out rows";
    let rows = [
        (Quantity::TrainingAccuracy, ", training"),
        (Quantity::HeldOut(Some(Domain::In)), ", in domain"),
        (Quantity::HeldOut(Some(Domain::Out)), ", out of domain"),
    ];
    let build = |against| paper_chart(study, styles, (ACCURACY, what), &rows, against);
    Against::ALL.into_iter().filter_map(build).collect()
}

fn paper_chart<'a>(
    study: &Study<'a>,
    styles: &Styles,
    (name, what): (&str, &str),
    rows: &[(Quantity, &str)],
    against: Against,
) -> Option<Chart> {
    let mut keys = study.methods(&[Role::Reference, Role::Proposed]);
    keys.retain(|method| {
        let mut quantities = rows.iter().map(|(quantity, _)| *quantity);
        quantities.any(|quantity| quantity.is_known(study, method))
    });
    if keys.is_empty() {
        return None;
    }
    let look = |method: &&'a Method| (*method, styles.of(&method.key));
    let methods: Vec<(&Method, Style)> = keys.iter().map(look).collect();
    let families = study.families(&keys);
    let panel = |(quantity, suffix): &(Quantity, &str), family: &Family| Panel {
        title: format!("{}{suffix}", family.name()),
        series: series(study, &methods, *family, *quantity, against),
    };
    let mut panels: Vec<Panel> = rows
        .iter()
        .flat_map(|row| families.iter().map(move |family| panel(row, family)))
        .collect();
    let axes = axes(against, &mut panels, name);
    let description = Description {
        name: format!("{name}-against-{}", against.name()),
        title: format!("{} against {}", capital(name), against.words()),
        caption: format!(
            "{what}, against {}: mean over seeds, the band one standard deviation to either side. Training values are means \
             of a tenth of the steps ending there.",
            against.words()
        ),
    };
    let legend = methods
        .iter()
        .map(|(method, style)| (method.title.clone(), *style))
        .collect();
    let grid = Grid {
        columns: families.len(),
        panels,
        legend,
        axes,
    };
    let command = command_of(study, &keys, &families);
    Some(Chart::new(draw(grid, &description), description, command))
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}
