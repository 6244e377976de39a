//! Cohorts held to the history. Which patients satisfy a tree of criteria depends on the states of several resources, each of which may be one of some: so it
//! is asked whether a patient can be in, and whether it can be out. Criteria are taken to vary by themselves, so a doubt is never a violation.

use api::proto::serving::{Criterion, CriterionList, CriterionTree, criterion_tree::Tree};

use super::check::{Book, Rule, Violation};
use super::history::Time;
use super::subjects::{Row, Shows, View};
use crate::ask::equals;

/// A tree of criteria.
#[derive(Debug, Clone)]
pub enum Criteria {
    /// Has a row in a view, with this value in the column of this number.
    In(View, Option<(usize, String)>),
    /// All hold.
    All(Vec<Criteria>),
    /// One holds.
    Any(Vec<Criteria>),
    /// It does not hold.
    Not(Box<Criteria>),
}

/// An answer, and what was asked.
#[derive(Debug, Clone)]
pub struct Cohort {
    /// Who answered, for people.
    pub by: &'static str,
    /// What was asked.
    pub criteria: Criteria,
    /// When it was about to be asked for.
    pub asked: Time,
    /// When its head was there.
    pub came: Time,
    /// What it claims.
    pub as_of: Time,
    /// The count of its head.
    pub count: i64,
    /// The patients; none where only the count was asked for.
    pub patients: Option<Vec<String>>,
}

/// Whether something can hold, and whether it can fail to.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    can_be: bool,
    can_fail: bool,
}

/// A criterion with the rows of each state that each resource may have.
enum Possible {
    In(View, Option<(usize, String)>, Vec<(String, Vec<Vec<Row>>)>),
    All(Vec<Possible>),
    Any(Vec<Possible>),
    Not(Box<Possible>),
}

impl Criteria {
    /// As the contract has it.
    pub fn message(&self) -> CriterionTree {
        let list = |criteria: &[Self]| CriterionList {
            criteria: criteria.iter().map(Self::message).collect(),
        };
        let tree = match self {
            Self::In(view, value) => Tree::Criterion(Criterion {
                view: view.name().to_owned(),
                filters: value
                    .iter()
                    .map(|(column, value)| equals(view.columns()[*column], value))
                    .collect(),
                ..Criterion::default()
            }),
            Self::All(all) => Tree::All(list(all)),
            Self::Any(any) => Tree::Any(list(any)),
            Self::Not(inner) => Tree::Negation(Box::new(inner.message())),
        };
        CriterionTree { tree: Some(tree) }
    }

    fn possible(&self, book: &Book, times: (Time, Time, Time), shows: &impl Shows) -> Possible {
        let list = |criteria: &[Self]| {
            criteria
                .iter()
                .map(|one| one.possible(book, times, shows))
                .collect()
        };
        match self {
            Self::In(view, value) => {
                let of_type = book.history.of_type(view.resource_type());
                let states = of_type.map(|(id, past)| {
                    let states = book.states(*view, id, past, times, shows);
                    (id.to_owned(), states.collect())
                });
                Possible::In(*view, value.clone(), states.collect())
            }
            Self::All(all) => Possible::All(list(all)),
            Self::Any(any) => Possible::Any(list(any)),
            Self::Not(inner) => Possible::Not(Box::new(inner.possible(book, times, shows))),
        }
    }
}

impl Possible {
    fn of(&self, patient: &str) -> Doubt {
        match self {
            Self::In(view, value, states) => {
                let column = usize::from(view.resource_type() != "Patient") * 2;
                let matches = |rows: &Vec<Row>| {
                    rows.iter().any(|row| {
                        row.get(column).is_some_and(|id| id == patient)
                            && value
                                .as_ref()
                                .is_none_or(|(column, value)| row.get(*column) == Some(value))
                    })
                };
                let can_be = states.iter().any(|(_, states)| states.iter().any(matches));
                let can_fail = states
                    .iter()
                    .all(|(_, states)| states.is_empty() || states.iter().any(|rows| !matches(rows)));
                Doubt { can_be, can_fail }
            }
            Self::All(all) => Doubt {
                can_be: all.iter().all(|one| one.of(patient).can_be),
                can_fail: all.iter().any(|one| one.of(patient).can_fail),
            },
            Self::Any(any) => Doubt {
                can_be: any.iter().any(|one| one.of(patient).can_be),
                can_fail: any.iter().all(|one| one.of(patient).can_fail),
            },
            Self::Not(inner) => {
                let Doubt { can_be, can_fail } = inner.of(patient);
                Doubt {
                    can_be: can_fail,
                    can_fail: can_be,
                }
            }
        }
    }
}

impl Cohort {
    /// Judges the answer.
    pub fn check(&self, book: &mut Book, shows: &impl Shows) -> Vec<Violation> {
        let possible = self
            .criteria
            .possible(book, (self.asked, self.as_of, self.came), shows);
        let mut violations = Vec::new();
        let mut broken = |rule, what: String| {
            let Self {
                by,
                criteria,
                asked,
                came,
                as_of,
                ..
            } = self;
            let text =
                format!("{by}, cohort {criteria:?}, as of {as_of}, asked {asked}, came {came}: {what}");
            violations.push(Violation { rule, text });
        };
        let (mut least, mut most, mut judged) = (0, 0, 0);
        for (id, _) in book.history.of_type("Patient") {
            judged += 1;
            let Doubt { can_be, can_fail } = possible.of(id);
            least += i64::from(!can_fail);
            most += i64::from(can_be);
            match &self.patients {
                Some(patients) if !can_be && patients.iter().any(|patient| patient == id) => {
                    broken(Rule::Real, format!("Patient/{id} cannot be in it"));
                }
                Some(patients) if !can_fail && !patients.iter().any(|patient| patient == id) => {
                    broken(Rule::Complete, format!("Patient/{id} is missing"));
                }
                _ => {}
            }
        }
        if !(least..=most).contains(&self.count) {
            broken(
                Rule::Complete,
                format!("counts {} patients, {least} to {most} can be", self.count),
            );
        }
        if let Some(patients) = &self.patients {
            if i64::try_from(patients.len()).ok() != Some(self.count) {
                broken(
                    Rule::Whole,
                    format!("{} patients, though it counts {}", patients.len(), self.count),
                );
            }
            if let Some(stranger) = patients
                .iter()
                .find(|id| book.history.past("Patient", id).is_none())
            {
                broken(Rule::Real, format!("Patient/{stranger} was never written"));
            }
        }
        book.judged += judged;
        violations
    }
}
