//! The table as a picture: requests a second by the number of clients, one line for each store and runtime.

use plotters::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Width and height, in pixels.
const SIZE: (u32, u32) = (800, 500);

type Lines<'a> = BTreeMap<String, Vec<(f64, f64)>>;

/// Requests a second by clients, of each series; and the limit of what this program's own runtime could do in memory.
fn lines(rows: &[Value]) -> Lines<'_> {
    let mut lines = Lines::new();
    for row in rows {
        let (Some(clients), Some(rate)) = (row["clients"].as_f64(), row["requests_per_s"].as_f64()) else {
            continue;
        };
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_string();
        let one_each = if row["max_batch"] == 1 { ", batches of one" } else { "" };
        lines
            .entry(format!("{} {}{one_each}", text("runtime"), text("store")))
            .or_default()
            .push((clients, rate));
        if (text("runtime"), text("store")) == ("own".into(), "memory".into())
            && let Some(limit) = row["limit_requests_per_s"].as_f64()
        {
            lines.entry("limit".into()).or_default().push((clients, limit));
        }
    }
    lines
}

/// Writes the picture.
///
/// # Errors
/// A sentence, if the file cannot be written.
pub fn write(path: &Path, rows: &[Value]) -> Result<(), String> {
    draw(path, &lines(rows)).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn draw(path: &Path, lines: &Lines<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let all = || lines.values().flatten();
    let most = all().fold(1.0, |most: f64, &(_, rate)| most.max(rate));
    let clients = all().fold(1.0, |most: f64, &(clients, _)| most.max(clients));
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d((1.0..clients * 1.2).log_scale(), 0.0..most * 1.1)?;
    chart.configure_mesh().x_desc("clients").y_desc("requests per second").draw()?;
    for (number, (name, points)) in lines.iter().enumerate() {
        let colour = Palette99::pick(number).to_rgba();
        let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3);
        chart
            .draw_series(line)?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_series_is_a_line_with_its_points() {
        let row = |clients, store: &str, rate| {
            json!({ "clients": clients, "store": store, "runtime": "own", "requests_per_s": rate,
                "limit_requests_per_s": 9000.0, "max_batch": 64 })
        };
        let rows = [row(1, "memory", 900.0), row(16, "memory", 4000.0), row(1, "disk", 300.0)];
        let lines = lines(&rows);
        assert_eq!(lines["own memory"], [(1.0, 900.0), (16.0, 4000.0)]);
        assert_eq!(lines["own disk"], [(1.0, 300.0)]);
        assert_eq!(lines["limit"], [(1.0, 9000.0), (16.0, 9000.0)]);
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("plot.svg");
        write(&file, &rows).expect("it is drawn");
        let svg = std::fs::read_to_string(&file).expect("it is there");
        let named =
            ["own memory", "own disk", "limit", "requests per second"].iter().all(|name| svg.contains(name));
        assert!(named && svg.matches("<polyline").count() >= 3, "{svg}");
    }
}
