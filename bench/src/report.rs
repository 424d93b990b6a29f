//! Results: one row for each scenario, as an aligned table for people and as JSON for machines.

use crate::ledger::{Latencies, percentile_ms};
use serde::Serialize;

/// What one scenario measured. What it did not measure is `None`, and a dash in the table.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its name.
    pub scenario: String,
    /// Deliveries (or messages, where the scenario says so) per second.
    pub per_second: Option<f64>,
    /// Median from the 202 to the arrival, in ms.
    pub p50_ms: Option<f64>,
    /// 99th percentile of the same.
    pub p99_ms: Option<f64>,
    /// Median from the beginning of the POST to the arrival, in ms.
    pub sent_p50_ms: Option<f64>,
    /// 99th percentile of the same.
    pub sent_p99_ms: Option<f64>,
    /// Processor seconds of the product per 1,000 deliveries.
    pub cpu_per_1000: Option<f64>,
    /// Processor seconds of driver and sink per 1,000 deliveries.
    pub bench_cpu_per_1000: Option<f64>,
    /// SQS requests per 1,000 deliveries.
    pub sqs_per_1000: Option<f64>,
    /// The most resident memory, in MB (10^6 bytes).
    pub peak_mb: Option<f64>,
    /// Accepted deliveries that never came.
    pub lost: Option<u64>,
    /// Deliveries that came more than once.
    pub duplicated: Option<u64>,
    /// The rate as a share of the bare loop's in the same run.
    pub of_limit: Option<f64>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
    /// What the scenario is held against.
    pub targets: Vec<Target>,
}

/// A number to reach.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// What, with its bound.
    pub what: String,
    /// What was measured.
    pub got: f64,
    /// Whether that reaches it.
    pub met: bool,
}

impl Row {
    /// An empty row.
    pub fn new(scenario: impl Into<String>) -> Self {
        Self {
            scenario: scenario.into(),
            ..Self::default()
        }
    }

    /// Fills the four latencies.
    pub fn latencies(&mut self, latencies: &Latencies) {
        self.p50_ms = percentile_ms(&latencies.from_accepted, 0.5);
        self.p99_ms = percentile_ms(&latencies.from_accepted, 0.99);
        self.sent_p50_ms = percentile_ms(&latencies.from_sent, 0.5);
        self.sent_p99_ms = percentile_ms(&latencies.from_sent, 0.99);
    }

    /// Says what `per_second` is of the limit, where one was measured.
    pub fn compare(&mut self, limit: Option<f64>) {
        self.of_limit = limit.zip(self.per_second).map(|(limit, rate)| rate / limit);
    }

    /// Holds a measured number against the least it should be.
    pub fn at_least(&mut self, what: &str, got: Option<f64>, bound: f64) {
        if let Some(got) = got {
            let what = format!("{what} ≥ {}", number(bound));
            self.targets.push(Target {
                what,
                got,
                met: got >= bound,
            });
        }
    }

    /// Holds a measured number against the most it should be.
    pub fn at_most(&mut self, what: &str, got: Option<f64>, bound: f64) {
        if let Some(got) = got {
            let what = format!("{what} ≤ {}", number(bound));
            self.targets.push(Target {
                what,
                got,
                met: got <= bound,
            });
        }
    }

    /// Adds a note.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

/// The run of a scenario that stands for all its runs: the one with the median rate. Losses and
/// duplicates are those of all runs together, and a note gives the spread.
pub fn median(mut rows: Vec<Row>) -> Option<Row> {
    let lost: u64 = rows.iter().filter_map(|row| row.lost).sum();
    let duplicated: u64 = rows.iter().filter_map(|row| row.duplicated).sum();
    let rank = |row: &Row| row.per_second.unwrap_or(0.0);
    rows.sort_by(|a, b| rank(a).total_cmp(&rank(b)));
    let (low, high) = (rank(rows.first()?), rank(rows.last()?));
    let runs = rows.len();
    let mut row = rows.swap_remove((runs - 1) / 2);
    row.lost = row.lost.map(|_| lost);
    row.duplicated = row.duplicated.map(|_| duplicated);
    if runs > 1 {
        row.note(format!(
            "median of {runs} runs, {} to {} per second",
            number(low),
            number(high)
        ));
    }
    Some(row)
}

/// The middle one of some values, or half-way between the two in the middle; not a number of none.
pub fn middle(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => f64::NAN,
        some if some.len() % 2 == 1 => some[some.len() / 2],
        some => f64::midpoint(some[some.len() / 2 - 1], some[some.len() / 2]),
    }
}

/// A whole run.
#[derive(Serialize)]
pub struct Report {
    /// The machine, in a line.
    pub machine: String,
    /// Bytes of a payload.
    pub payload: usize,
    /// One row for each scenario.
    pub rows: Vec<Row>,
    /// Scenarios that could not be measured, and why.
    pub failures: Vec<String>,
}

impl Report {
    /// Whether everything ran, nothing was lost, and no signature was wrong.
    pub fn sound(&self) -> bool {
        self.failures.is_empty() && self.rows.iter().all(|row| row.lost.unwrap_or(0) == 0)
    }

    /// The report as text.
    pub fn text(&self) -> String {
        let mut text = format!("{}, {}-byte payloads\n\n", self.machine, self.payload);
        text.push_str(&table(&self.rows));
        let targets: Vec<_> = self
            .rows
            .iter()
            .flat_map(|row| row.targets.iter().map(move |target| (row, target)))
            .collect();
        if !targets.is_empty() {
            text.push_str("\ntargets\n");
        }
        for (row, target) in targets {
            let verdict = if target.met { "met   " } else { "missed" };
            text.push_str(&format!(
                "  {verdict}  {}: {}, measured {}\n",
                row.scenario,
                target.what,
                number(target.got)
            ));
        }
        let notes: Vec<_> = self
            .rows
            .iter()
            .flat_map(|row| row.notes.iter().map(move |note| (row, note)))
            .collect();
        if !notes.is_empty() {
            text.push_str("\nnotes\n");
        }
        for (row, note) in notes {
            text.push_str(&format!("  {}: {note}\n", row.scenario));
        }
        for failure in &self.failures {
            text.push_str(&format!("\nFAILED  {failure}\n"));
        }
        text
    }
}

const HEAD: [&str; 12] = [
    "scenario", "per s", "p50 ms", "p99 ms", "sent p50", "sent p99", "CPU-s/1k", "bench", "SQS/1k",
    "peak MB", "lost", "dup",
];

fn table(rows: &[Row]) -> String {
    let float = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
    let count = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    let mut lines = vec![
        HEAD.map(str::to_owned)
            .into_iter()
            .chain(["of limit".to_owned()])
            .collect::<Vec<_>>(),
    ];
    for row in rows {
        lines.push(vec![
            row.scenario.clone(),
            float(row.per_second),
            float(row.p50_ms),
            float(row.p99_ms),
            float(row.sent_p50_ms),
            float(row.sent_p99_ms),
            float(row.cpu_per_1000),
            float(row.bench_cpu_per_1000),
            float(row.sqs_per_1000),
            float(row.peak_mb),
            count(row.lost),
            count(row.duplicated),
            row.of_limit
                .map_or_else(|| "-".to_owned(), |share| format!("{:.0}%", share * 100.0)),
        ]);
    }
    let widths: Vec<usize> = (0..lines[0].len())
        .map(|column| {
            lines
                .iter()
                .map(|line| line[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            if column == 0 {
                text.push_str(&format!("{cell:<width$}"));
            } else {
                text.push_str(&format!("  {cell:>width$}"));
            }
        }
        text.push('\n');
    }
    text
}

/// Three digits that matter, thousands separated: `12,345`, `98.7`, `1.23`, `0.034`.
pub fn number(value: f64) -> String {
    if value.abs() >= 100.0 {
        let digits = format!("{value:.0}");
        let mut text = String::new();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place) % 3 == 0 && !text.ends_with('-') {
                text.push(',');
            }
            text.push(digit);
        }
        text
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else if value.abs() >= 1.0 || value == 0.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits_that_matter() {
        let written = [12345.4, 1_234_567.0, 987.0, 98.76, 1.234, 0.0344, 0.0].map(number);
        assert_eq!(
            written,
            ["12,345", "1,234,567", "987", "98.8", "1.23", "0.034", "0.00"]
        );
        assert_eq!(number(-123_456.0), "-123,456");
    }

    #[test]
    fn the_median_run_stands_for_all_but_hides_no_loss() {
        let rows = [(300.0, 0), (100.0, 2), (200.0, 0)].map(|(rate, lost)| Row {
            per_second: Some(rate),
            lost: Some(lost),
            ..Row::new("x")
        });
        let row = median(rows.to_vec()).unwrap();
        assert_eq!((row.per_second, row.lost), (Some(200.0), Some(2)));
        assert_eq!(row.notes, ["median of 3 runs, 100 to 300 per second"]);
        assert!(median(Vec::new()).is_none());
    }

    #[test]
    fn columns_line_up_and_what_was_not_measured_is_a_dash() {
        let mut row = Row::new("a-long-scenario");
        row.per_second = Some(6543.2);
        row.compare(Some(13086.4));
        row.at_least("deliveries/s", row.per_second, 6000.0);
        let report = Report {
            machine: "2 cores".into(),
            payload: 1024,
            rows: vec![row, Row::new("b")],
            failures: Vec::new(),
        };
        let text = report.text();
        let lines: Vec<&str> = text.lines().skip(2).take(3).collect();
        let width = lines[0].chars().count();
        assert!(lines.iter().all(|line| line.chars().count() == width), "{text}");
        assert!(lines[1].contains("6,543") && lines[1].ends_with("50%"));
        assert!(lines[2].ends_with('-'));
        assert!(
            text.contains("met     a-long-scenario: deliveries/s ≥ 6,000, measured 6,543"),
            "{text}"
        );
        assert!(report.sound());
    }
}
