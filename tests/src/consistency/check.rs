//! Answers held to the history: pure, so that each rule can be shown to catch what it is there for.
//!
//! An answer that claims `as_of`, was asked for at `asked` and whose head came at `came` was made of one snapshot between those two. So for each resource:
//!
//! * it shows a state that HAPI had between `as_of` and `came`: what was surely committed before `as_of` is in, and nothing is shown that was not asked
//!   of HAPI by then;
//! * all of its rows are of that one state, none is missing, none is doubled;
//! * the state is not earlier than one that an answer has shown which came before this one was asked for.
//!
//! Where a resource has no row, the earliest state that explains it is taken for what was shown.

use std::collections::HashMap;
use std::fmt::Write as _;

use chrono::TimeDelta;

use super::history::{History, Key, Past, Rising, Time};
use super::subjects::{Row, Shows, View};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// Something that was committed before `as_of` is not in.
    Complete,
    /// A state is shown that HAPI did not have, or not then.
    Real,
    /// A resource's rows are not those of one state.
    Whole,
    /// Less is shown than before.
    Forward,
    /// What was demanded as `at_least` is not in.
    AtLeast,
    /// The answer is older than `max_staleness` allows.
    MaxStaleness,
    /// Somebody who reads in SQL got an error.
    Served,
}

impl Rule {
    /// As the final line and the docs name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Real => "real",
            Self::Whole => "whole",
            Self::Forward => "forward",
            Self::AtLeast => "at_least",
            Self::MaxStaleness => "max_staleness",
            Self::Served => "served",
        }
    }
}

/// What is wrong with an answer. Resources are made up by the checker: their ids tell nothing of anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What is broken.
    pub rule: Rule,
    /// In words, with the history around it.
    pub text: String,
}

/// The rows that an answer must hold all of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All rows of the view.
    All,
    /// Those of one resource.
    Resource(String),
    /// Those that have this value in the column of this number.
    Where(usize, String),
    /// Those of a page: behind the rows of `after`, which the page before ended within, up to those of `until`, which this one ends within.
    Page {
        /// Last resource of the page before; none: the first page.
        after: Option<String>,
        /// Last resource of this page; none: the last page.
        until: Option<String>,
    },
}

/// How much of a resource's rows an answer must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    All,
    Some,
    None,
}

impl Scope {
    fn extent(&self, id: &str) -> Extent {
        let all_if = |within| if within { Extent::All } else { Extent::None };
        match self {
            Self::All | Self::Where(..) => Extent::All,
            Self::Resource(only) => all_if(only == id),
            Self::Page { after, until } => {
                let [after, until] = [after, until].map(Option::as_deref);
                if after == Some(id) || until == Some(id) {
                    return Extent::Some;
                }
                all_if(after.is_none_or(|after| id > after) && until.is_none_or(|until| id < until))
            }
        }
    }

    fn keeps(&self, row: &Row) -> bool {
        match self {
            Self::Where(column, value) => row.get(*column) == Some(value),
            _ => true,
        }
    }
}

/// An answer, and what was asked.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Who answered, for people.
    pub by: &'static str,
    /// The view.
    pub view: View,
    /// Of the batch alone.
    pub batch: bool,
    /// When it was about to be asked for.
    pub asked: Time,
    /// When its head was there.
    pub came: Time,
    /// What it claims.
    pub as_of: Time,
    /// What it must hold.
    pub scope: Scope,
    /// A resource that must be at this place of its past, or further.
    pub at_least: Option<(Key, usize)>,
    /// How old it may be.
    pub max_staleness: Option<TimeDelta>,
    /// Its rows.
    pub rows: Vec<Row>,
}

/// The history, and what answers have shown of it.
#[derive(Debug, Default)]
pub struct Book {
    /// What was written.
    pub history: History,
    /// The greatest place that was shown of each resource, in merged answers and in those of the batch.
    shown: [HashMap<Key, Rising<usize>>; 2],
    /// The latest `as_of` of each type.
    as_of: [HashMap<&'static str, Rising<Time>>; 2],
    /// States of resources that were judged.
    pub judged: u64,
}

impl Book {
    /// Judges an answer, and remembers what it has shown.
    pub fn check(&mut self, answer: &Answer, shows: &impl Shows) -> Vec<Violation> {
        let mut violations = self.check_times(answer);
        let resource_type = answer.view.resource_type();
        let mut by_id: HashMap<&str, Vec<&Row>> = HashMap::new();
        for row in &answer.rows {
            by_id
                .entry(row.first().map_or("", String::as_str))
                .or_default()
                .push(row);
        }
        let mut places = Vec::new();
        for (id, past) in self.history.of_type(resource_type) {
            let rows = by_id.remove(id).unwrap_or_default();
            let extent = answer.scope.extent(id);
            if extent == Extent::None && rows.is_empty() {
                continue;
            }
            self.judged += 1;
            let key = Key {
                resource_type,
                id: id.to_owned(),
            };
            let floor = self.shown[usize::from(answer.batch)]
                .get(&key)
                .and_then(|shown| shown.before(answer.asked))
                .unwrap_or_default();
            let demanded = match &answer.at_least {
                Some((wanted, place)) if *wanted == key => *place,
                _ => 0,
            };
            let judge = Judge {
                answer,
                shows,
                past,
                id,
                extent,
                floor,
                demanded,
            };
            match judge.judge(&rows) {
                Ok(Some(place)) => places.push((key, place)),
                Ok(None) => {}
                Err(violation) => violations.push(violation),
            }
        }
        violations.extend(by_id.into_keys().map(|id| Violation {
            rule: Rule::Real,
            text: format!("{}: {resource_type}/{id} was never written", described(answer)),
        }));
        for (key, place) in places {
            self.shown[usize::from(answer.batch)]
                .entry(key)
                .or_default()
                .seen(answer.came, place);
        }
        violations
    }

    /// What can be said without rows.
    fn check_times(&mut self, answer: &Answer) -> Vec<Violation> {
        let mut violations = Vec::new();
        let mut broken = |rule, what: String| {
            violations.push(Violation {
                rule,
                text: format!("{}: {what}", described(answer)),
            });
        };
        if answer.as_of > answer.came {
            broken(Rule::Complete, "its as_of was still to come".to_owned());
        }
        if let Some(max) = answer.max_staleness
            && answer.as_of + max < answer.asked
        {
            let age = answer.asked - answer.as_of;
            broken(
                Rule::MaxStaleness,
                format!(
                    "{} ms old when it was asked for, {} ms were allowed",
                    age.num_milliseconds(),
                    max.num_milliseconds()
                ),
            );
        }
        let of_type = self.as_of[usize::from(answer.batch)]
            .entry(answer.view.resource_type())
            .or_default();
        if let Some(before) = of_type
            .before(answer.asked)
            .filter(|before| *before > answer.as_of)
        {
            broken(Rule::Forward, format!("an answer before it was as of {before}"));
        }
        of_type.seen(answer.came, answer.as_of);
        violations
    }

    /// How many rows a whole merged view may have: the least and the most.
    pub fn counts(
        &self,
        view: View,
        (asked, as_of, came): (Time, Time, Time),
        shows: &impl Shows,
    ) -> (usize, usize) {
        let (mut least, mut most) = (0, 0);
        for (id, past) in self.history.of_type(view.resource_type()) {
            let counts = self
                .states(view, id, past, (asked, as_of, came), shows)
                .map(|rows| rows.len());
            let counts: Vec<usize> = counts.collect();
            least += counts.iter().min().copied().unwrap_or_default();
            most += counts.iter().max().copied().unwrap_or_default();
        }
        (least, most)
    }

    /// The rows of each state that a merged answer may show of a resource.
    pub fn states<'a>(
        &'a self,
        view: View,
        id: &'a str,
        past: &'a Past,
        (asked, as_of, came): (Time, Time, Time),
        shows: &'a impl Shows,
    ) -> impl Iterator<Item = Vec<Row>> + 'a {
        let key = Key {
            resource_type: view.resource_type(),
            id: id.to_owned(),
        };
        let floor = self.shown[0]
            .get(&key)
            .and_then(|shown| shown.before(asked))
            .unwrap_or_default();
        past.between(as_of, came)
            .filter(move |place| *place >= floor && past.may_be(*place))
            .map(move |place| {
                past.state(place)
                    .map_or_else(Vec::new, |sequence| shows.rows(view, id, sequence))
            })
    }
}

/// One resource in one answer.
struct Judge<'a, S> {
    answer: &'a Answer,
    shows: &'a S,
    past: &'a Past,
    id: &'a str,
    extent: Extent,
    /// Shown by an answer before.
    floor: usize,
    /// Demanded by `at_least`.
    demanded: usize,
}

impl<S: Shows> Judge<'_, S> {
    /// The place that the rows show, where they show one.
    fn judge(&self, rows: &[&Row]) -> Result<Option<usize>, Violation> {
        let Some(first) = rows.first() else {
            // On the edge of a page there need be none.
            return if self.extent == Extent::All {
                self.absent().map(Some)
            } else {
                Ok(None)
            };
        };
        let sequence = first.get(1);
        if rows.iter().any(|row| row.get(1) != sequence) {
            return Err(self.broken(Rule::Whole, &format!("rows of several states: {}", listed(rows))));
        }
        let place = sequence
            .and_then(|text| text.parse().ok())
            .and_then(|sequence| self.past.place_of(sequence));
        let Some(place) = place.filter(|place| self.past.may_be(*place)) else {
            return Err(self.broken(
                Rule::Real,
                &format!("a state that HAPI never had: {}", listed(rows)),
            ));
        };
        self.same(place, rows)?;
        let possible = self.past.between(self.answer.as_of, self.answer.came);
        if place < *possible.start() {
            let what = format!(
                "shows change {place}, though {} was there before",
                possible.start()
            );
            return Err(self.broken(Rule::Complete, &what));
        }
        if place > *possible.end() {
            return Err(self.broken(
                Rule::Real,
                &format!("shows change {place} before it was asked for"),
            ));
        }
        self.not_before(place)?;
        Ok(Some(place))
    }

    /// There is no row: which state explains it?
    fn absent(&self) -> Result<usize, Violation> {
        let mut explained = false;
        for place in self.past.between(self.answer.as_of, self.answer.came) {
            if !self.past.may_be(place) || !self.rows(place).is_empty() {
                continue;
            }
            explained = true;
            if place >= self.floor.max(self.demanded) {
                return Ok(place);
            }
        }
        if !explained {
            return Err(self.broken(Rule::Complete, "has no row, though it had some all the time"));
        }
        let rule = if self.demanded > self.floor {
            Rule::AtLeast
        } else {
            Rule::Forward
        };
        Err(self.broken(rule, "has no row any more"))
    }

    fn not_before(&self, place: usize) -> Result<(), Violation> {
        if place < self.demanded {
            return Err(self.broken(
                Rule::AtLeast,
                &format!("shows change {place}, {} was demanded", self.demanded),
            ));
        }
        if place < self.floor {
            return Err(self.broken(
                Rule::Forward,
                &format!("shows change {place}, after an answer that showed {}", self.floor),
            ));
        }
        Ok(())
    }

    /// The rows that the answer must hold of a place.
    fn rows(&self, place: usize) -> Vec<Row> {
        let rows = self.past.state(place).map_or_else(Vec::new, |sequence| {
            self.shows.rows(self.answer.view, self.id, sequence)
        });
        rows.into_iter()
            .filter(|row| self.answer.scope.keeps(row))
            .collect()
    }

    fn same(&self, place: usize, rows: &[&Row]) -> Result<(), Violation> {
        let mut expected = self.rows(place);
        for row in rows {
            let Some(found) = expected.iter().position(|one| one == *row) else {
                let what = format!(
                    "a row that change {place} does not give, or not twice: {}",
                    listed(rows)
                );
                return Err(self.broken(Rule::Whole, &what));
            };
            expected.swap_remove(found);
        }
        if self.extent == Extent::All && !expected.is_empty() {
            let what = format!(
                "{} rows of change {place} are missing: {}",
                expected.len(),
                listed(rows)
            );
            return Err(self.broken(Rule::Whole, &what));
        }
        Ok(())
    }

    fn broken(&self, rule: Rule, what: &str) -> Violation {
        let possible = self.past.between(self.answer.as_of, self.answer.came);
        let (first, last) = (possible.start().saturating_sub(3).max(1), possible.end() + 3);
        let mut text = format!(
            "{}: {}/{} {what}. Its changes:",
            described(self.answer),
            self.answer.view.resource_type(),
            self.id
        );
        for (index, change) in self.past.changes().iter().enumerate() {
            let place = index + 1;
            if (first..=last).contains(&place) || place == self.floor {
                let state = change
                    .state
                    .map_or_else(|| "deleted".to_owned(), |sequence| format!("sequence {sequence}"));
                let _ = write!(
                    text,
                    "\n    {place}: {state}, requested {}, {:?}",
                    change.requested, change.outcome
                );
            }
        }
        Violation { rule, text }
    }
}

fn described(answer: &Answer) -> String {
    let Answer {
        by,
        view,
        batch,
        asked,
        came,
        as_of,
        scope,
        ..
    } = answer;
    let layer = if *batch { " (batch)" } else { "" };
    format!(
        "{by}, {}{layer}, {scope:?}, as of {as_of}, asked {asked}, came {came}",
        view.name()
    )
}

fn listed(rows: &[&Row]) -> String {
    rows.iter().map(|row| row.join("|")).collect::<Vec<_>>().join(" ")
}
