//! Contrast: every text on every ground of a page and of a diagram, by WCAG 2.1.

use super::story;
use pbft_models::story::page;
use std::collections::BTreeMap;

type Colour = [f64; 3];

/// WCAG 2.1, relative luminance.
fn luminance(colour: Colour) -> f64 {
    let linear = |part: f64| match part / 255.0 {
        low if low <= 0.03928 => low / 12.92,
        high => ((high + 0.055) / 1.055).powf(2.4),
    };
    0.2126 * linear(colour[0]) + 0.7152 * linear(colour[1]) + 0.0722 * linear(colour[2])
}

/// WCAG 2.1, contrast ratio.
fn contrast(one: Colour, other: Colour) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

/// The colours of a page by name, for each surroundings that it has some for.
fn palettes(page: &str) -> Vec<BTreeMap<String, Colour>> {
    let palette = |rest: &str| {
        let named = rest.split('}').next().unwrap_or_default().split(';').filter_map(|item| {
            let (name, value) = item.trim().split_once(":#")?;
            let part = |at: usize| u8::from_str_radix(value.get(at..at + 2)?, 16).ok().map(f64::from);
            Some((name.trim_start_matches('-').to_string(), [part(0)?, part(2)?, part(4)?]))
        });
        named.collect()
    };
    page.match_indices("--ink:").map(|(at, _)| palette(&page[at..])).collect()
}

#[test]
fn every_text_can_be_read_on_every_ground_of_a_page_and_of_a_diagram() {
    let (story, _) = story("highest-view-wins");
    let page = page(&story);
    let palettes = palettes(&page);
    // Of the page and of the two diagrams in it: light, dark and on paper.
    assert_eq!(palettes.len(), 9);
    // A row that is chosen has a little of the ink over it.
    let share = 0.05;
    assert!(page.contains(".d .chosen .row{fill-opacity:.05;") && !page.contains("opacity:.6}"));
    for colours in &palettes {
        for text in ["ink", "soft", "bad", "byz", "quorum", "safe"] {
            for ground in ["paper", "ground", "wash", "v0", "v1", "v2", "v3"] {
                let (plain, ink) = (colours[ground], colours["ink"]);
                let chosen = [0, 1, 2].map(|at| plain[at] * (1.0 - share) + ink[at] * share);
                for ground_seen in [plain, chosen] {
                    let found = contrast(colours[text], ground_seen);
                    assert!(found >= 4.5, "{text} on {ground}: {found:.2} to 1");
                }
            }
        }
        // A cell of a quorum has text of the colour of the paper.
        assert!(contrast(colours["paper"], colours["quorum"]) >= 4.5);
    }
}
