//! The project's rules and routing, with time made short: minutes become seconds. What an alert is about, and what it says, stays as it is.

use std::fmt::Write as _;

use anyhow::Context as _;

/// One second of the test for so many of the rules.
pub(crate) const SCALE: u64 = 60;

/// Thresholds that are spans of time, in seconds: made short as the rest, but for room for a busy machine.
const THRESHOLDS: [(&str, &str); 2] = [
    (
        "researchflow_batch_as_of_seconds) > 180",
        "researchflow_batch_as_of_seconds) > 6",
    ),
    (
        "researchflow_tail_lag_seconds) > 30",
        "researchflow_tail_lag_seconds) > 3",
    ),
];

/// The rules. Fails if a threshold is no longer there.
pub(crate) fn rules(text: &str) -> anyhow::Result<String> {
    let mut text = text.to_owned();
    for (from, to) in THRESHOLDS {
        anyhow::ensure!(text.contains(from), "the rules have no `{from}` any more");
        text = text.replace(from, to);
    }
    let mut notes_at = None;
    let mut rules = String::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if notes_at.is_some_and(|at| indent <= at) {
            notes_at = None;
        }
        if line.trim_start().starts_with("annotations:") {
            notes_at = Some(indent);
        }
        let said = notes_at.is_some() || line.trim_start().starts_with('#');
        rules += &if said { line.to_owned() } else { spans(line) };
        rules.push('\n');
    }
    Ok(rules)
}

/// A line with its spans of time made short. (A number at the end of a name is none: `increase15m`.)
fn spans(line: &str) -> String {
    let mut short = String::new();
    let mut rest = line;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, number) = rest.split_at(start);
        let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        let (digits, after) = number.split_at(digits);
        let within_a_word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '.');
        let mut letters = after.chars();
        let unit = match letters.next() {
            Some('s') => Some(1),
            Some('m') => Some(60),
            Some('h') => Some(3600),
            Some('d') => Some(86_400),
            _ => None,
        };
        let ends = letters.next().is_none_or(|c| !c.is_alphanumeric() && c != '_');
        short.push_str(before);
        match (unit, digits.parse::<u64>()) {
            (Some(unit), Ok(count)) if !within_a_word && ends => {
                let _infallible = write!(short, "{}ms", count * unit * 1000 / SCALE);
                rest = after.get(1..).unwrap_or_default();
            }
            _ => {
                short.push_str(digits);
                rest = after;
            }
        }
    }
    short + rest
}

/// The names of all alerts, as often as there are rules of the name.
pub(crate) fn alerts(text: &str) -> Vec<String> {
    let names = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

/// Alertmanager's configuration: with Slack where the receiver is, the templates where they lie, and short waits.
pub(crate) fn routing(text: &str, slack_url_file: &str, templates: &str) -> anyhow::Result<String> {
    let mut text = text.to_owned();
    for (from, to) in [
        ("/etc/alertmanager/secrets/slack-url", slack_url_file),
        ("/etc/alertmanager/templates/*.tmpl", templates),
        ("group_wait: 30s", "group_wait: 200ms"),
        ("group_interval: 5m", "group_interval: 500ms"),
        ("group_wait: 10s", "group_wait: 200ms"),
        ("group_interval: 1m", "group_interval: 500ms"),
    ] {
        text.find(from)
            .with_context(|| format!("the routing has no `{from}` any more"))?;
        text = text.replace(from, to);
    }
    Ok(text)
}

#[test]
fn spans_of_time_are_made_short_and_nothing_else() {
    for (long, short) in [
        ("for: 5m", "for: 5000ms"),
        (
            "rate(x_total{le=\"10.0\"}[1h]) offset 15m > 0.05",
            "rate(x_total{le=\"10.0\"}[60000ms]) offset 15000ms > 0.05",
        ),
        (
            "- record: type:failures:increase15m",
            "- record: type:failures:increase15m",
        ),
        ("expr: time() - x > 172800", "expr: time() - x > 172800"),
        ("for: 30s", "for: 500ms"),
    ] {
        assert_eq!(spans(long), short);
    }
}
