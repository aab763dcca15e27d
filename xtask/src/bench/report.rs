//! From samples to the table in docs/PERFORMANCE.md.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use support::client::Client;

use super::Sample;
use super::workload::Workload;
use crate::setup;

const BEGIN: &str = "<!-- bench: begin -->";
const END: &str = "<!-- bench: end -->";

/// The median; of an even number the mean of the middle two.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => values.get(middle).copied(),
        _ => Some((values.get(middle - 1)? + values.get(middle)?) / 2.0),
    }
}

/// Medians of wall time (seconds) and of CPU per operation (microseconds).
fn medians(samples: &[Sample], client: Client, row: Workload) -> Option<(f64, f64)> {
    let of = |figure: fn(&Sample) -> f64| {
        median(samples.iter().filter(|sample| sample.client == client && sample.workload == row).map(figure).collect())
    };
    let per_operation = |sample: &Sample| micros(sample.cpu) / sample.operations.max(1) as f64;
    Some((of(|sample| sample.wall.as_secs_f64())?, of(per_operation)?))
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The table as markdown. Ratios are rgfs to C: below 1 is faster, or cheaper.
pub(crate) fn table(samples: &[Sample], rows: &[Workload]) -> String {
    let mut text = String::from(
        "| row | C wall (s) | rgfs wall (s) | wall ratio | C CPU per op (µs) | rgfs CPU per op (µs) | CPU ratio |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for &row in rows {
        let c = medians(samples, Client::C, row);
        let ours = medians(samples, Client::Rgfs, row);
        let show =
            |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
        let ratio = |pick: fn((f64, f64)) -> f64| match (c, ours) {
            (Some(c), Some(ours)) => Some(pick(ours) / pick(c)),
            _ => None,
        };
        text += &format!(
            "| {} | {} | {} | {} | {} | {} | {} |\n",
            row.title(),
            show(c.map(|figures| figures.0), 3),
            show(ours.map(|figures| figures.0), 3),
            show(ratio(|figures| figures.0), 2),
            show(c.map(|figures| figures.1), 1),
            show(ours.map(|figures| figures.1), 1),
            show(ratio(|figures| figures.1), 2),
        );
    }
    text
}

/// Puts the table between the markers of docs/PERFORMANCE.md, with the command that made it.
pub(crate) fn write(command: &str, table: &str) -> Result<()> {
    let path = setup::root()?.join("docs/PERFORMANCE.md");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (before, rest) = text.split_once(BEGIN).with_context(|| format!("no {BEGIN} in {}", path.display()))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no {END} in {}", path.display()))?;
    let cpus = std::thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let made = format!("Made by `{command}` on {cpus} CPUs, Linux {}.", kernel.trim());
    fs::write(&path, format!("{before}{BEGIN}\n{made}\n\n{table}{END}{after}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn medians_of_odd_and_even() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }
}
