//! From samples to the table in docs/PERFORMANCE.md.

use std::fs;

use anyhow::{Context, Result};
use support::client::Client;

use super::workload::Workload;
use super::{Sample, VolumeKind};
use crate::setup;

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

/// The medians of one row with one client.
struct Figures {
    /// Seconds.
    wall: f64,
    /// Microseconds of CPU per operation.
    cpu: f64,
    /// Fops at the bricks per operation.
    requests: f64,
    /// Bytes copied per byte read, where that is known.
    copied: Option<f64>,
}

impl Figures {
    fn of(samples: &[Sample], client: Client, row: Workload) -> Option<Self> {
        let ours = || samples.iter().filter(|sample| sample.client == client && sample.workload == row);
        let per_operation = |sample: &Sample, value: f64| value / sample.operations.max(1) as f64;
        Some(Self {
            wall: median(ours().map(|sample| sample.wall.as_secs_f64()).collect())?,
            cpu: median(ours().map(|sample| per_operation(sample, sample.cpu.as_secs_f64() * 1e6)).collect())?,
            requests: median(ours().map(|sample| per_operation(sample, sample.requests as f64)).collect())?,
            copied: median(ours().filter_map(|sample| sample.copied).collect()),
        })
    }
}

/// The table as markdown. Ratios are rgfs to C: below 1 is faster, or cheaper.
pub(crate) fn table(samples: &[Sample], rows: &[Workload]) -> String {
    let mut text = String::from(
        "| row | C wall (s) | rgfs wall (s) | wall ratio | C CPU per op (µs) | rgfs CPU per op (µs) | CPU ratio \
         | C fops per op | rgfs fops per op | rgfs bytes copied per byte read |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for &row in rows {
        let c = Figures::of(samples, Client::C, row);
        let ours = Figures::of(samples, Client::Rgfs, row);
        let show = |figures: &Option<Figures>, pick: fn(&Figures) -> f64, digits: usize| {
            figures.as_ref().map_or("-".to_owned(), |figures| format!("{:.digits$}", pick(figures)))
        };
        let ratio = |pick: fn(&Figures) -> f64| match (&c, &ours) {
            (Some(c), Some(ours)) => format!("{:.2}", pick(ours) / pick(c)),
            _ => "-".to_owned(),
        };
        let copied = ours.as_ref().and_then(|figures| figures.copied);
        let cells = [
            row.title().to_owned(),
            show(&c, |figures| figures.wall, 3),
            show(&ours, |figures| figures.wall, 3),
            ratio(|figures| figures.wall),
            show(&c, |figures| figures.cpu, 1),
            show(&ours, |figures| figures.cpu, 1),
            ratio(|figures| figures.cpu),
            show(&c, |figures| figures.requests, 2),
            show(&ours, |figures| figures.requests, 2),
            copied.map_or("-".to_owned(), |copied| format!("{copied:.2}")),
        ];
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text
}

/// Puts the table between the markers of its volume in docs/PERFORMANCE.md, with the command that made it.
pub(crate) fn write(kind: VolumeKind, command: &str, table: &str) -> Result<()> {
    let path = setup::root()?.join("docs/PERFORMANCE.md");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let cpus = std::thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let made = format!("Made by `{command}` on {cpus} CPUs, Linux {}.", kernel.trim());
    let replaced = replace(&text, kind.name(), &format!("{made}\n\n{table}"));
    fs::write(&path, replaced.with_context(|| format!("no markers for {} in {}", kind.name(), path.display()))?)?;
    Ok(())
}

/// `text` with `content` between the lines `<!-- bench NAME: begin -->` and `<!-- bench NAME: end -->`; `None` without these.
fn replace(text: &str, name: &str, content: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- bench {name}: begin -->"), format!("<!-- bench {name}: end -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{content}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::{median, replace};

    #[test]
    fn a_table_goes_between_its_own_markers() {
        let text =
            "<!-- bench a: begin -->\n<!-- bench a: end -->\n<!-- bench b: begin -->\nold\n<!-- bench b: end -->\n";
        let expected = text.replace("old\n", "new\n");
        assert_eq!(replace(text, "b", "new\n"), Some(expected));
        assert_eq!(replace(text, "c", "new\n"), None);
    }

    #[test]
    fn medians_of_odd_and_even() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }
}
