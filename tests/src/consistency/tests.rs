//! Each rule of the checker, on histories and answers that are made by hand: what is right passes, what is wrong is caught.

use chrono::{DateTime, TimeDelta};

use super::check::{Answer, Book, Rule, Scope};
use super::cohort::{Cohort, Criteria};
use super::history::{Key, Outcome, Time};
use super::subjects::{Population, Row, Shows, View};

fn at(millis: i64) -> Time {
    DateTime::from_timestamp_millis(1_800_000_000_000 + millis).expect("a time")
}

fn population() -> Population {
    Population {
        prefix: "t".into(),
        homes: 2,
        others: 2,
    }
}

const A: &str = "t-guest-000";

fn key() -> Key {
    Key {
        resource_type: "Patient",
        id: A.into(),
    }
}

/// Changes of guest 0: the state, when it was requested and when answered; `None` stays open.
fn book(changes: &[(Option<u64>, i64, Option<i64>)]) -> Book {
    let mut book = Book::default();
    write(&mut book, &key(), changes);
    book
}

fn write(book: &mut Book, key: &Key, changes: &[(Option<u64>, i64, Option<i64>)]) {
    let past = book.history.past_mut(key);
    for (state, requested, answered) in changes {
        let place = past.begin(*state, at(*requested));
        if let Some(answered) = answered {
            let version = i64::try_from(place).ok();
            past.end(
                place,
                Outcome::Committed {
                    answered: at(*answered),
                    version,
                },
            );
        }
    }
}

/// Sequence 1 at 100 to 110, sequence 2 at 200 to 210, deleted at 300 to 310.
fn usual() -> Book {
    book(&[
        (Some(1), 100, Some(110)),
        (Some(2), 200, Some(210)),
        (None, 300, Some(310)),
    ])
}

fn rows(sequence: u64) -> Vec<Row> {
    population().rows(View::Names, A, sequence)
}

fn answer(as_of: i64, asked: i64, came: i64, rows: Vec<Row>) -> Answer {
    Answer {
        by: "a test",
        view: View::Names,
        batch: false,
        asked: at(asked),
        came: at(came),
        as_of: at(as_of),
        scope: Scope::All,
        at_least: None,
        max_staleness: None,
        rows,
    }
}

fn broken(book: &mut Book, answer: &Answer) -> Vec<Rule> {
    book.check(answer, &population())
        .into_iter()
        .map(|violation| violation.rule)
        .collect()
}

#[test]
fn a_right_answer_passes_at_every_moment() {
    // Before the first write, and while it is on its way either is right.
    assert_eq!(broken(&mut usual(), &answer(50, 60, 99, vec![])), []);
    for rows in [vec![], rows(1)] {
        assert_eq!(broken(&mut usual(), &answer(105, 104, 108, rows)), []);
    }
    assert_eq!(broken(&mut usual(), &answer(150, 150, 160, rows(1))), []);
    // The deletion may have been committed as soon as it was asked for, and must be once its answer was there.
    assert_eq!(broken(&mut usual(), &answer(250, 302, 305, vec![])), []);
    assert_eq!(broken(&mut usual(), &answer(311, 312, 320, vec![])), []);
    // What nobody knows the end of may be shown or not.
    let mut open = book(&[(Some(1), 100, Some(110)), (Some(2), 200, None)]);
    assert_eq!(broken(&mut open, &answer(900, 900, 910, rows(1))), []);
    assert_eq!(broken(&mut open, &answer(900, 920, 930, rows(2))), []);
}

#[test]
fn a_lost_row_and_a_late_one_are_not_complete() {
    assert_eq!(
        broken(&mut usual(), &answer(111, 120, 130, vec![])),
        [Rule::Complete]
    );
    assert_eq!(
        broken(&mut usual(), &answer(211, 220, 230, rows(1))),
        [Rule::Complete]
    );
    assert_eq!(
        broken(&mut usual(), &answer(311, 320, 330, rows(2))),
        [Rule::Complete],
        "the deletion is missing"
    );
    assert_eq!(
        broken(&mut usual(), &answer(200, 120, 130, rows(1))),
        [Rule::Complete],
        "it claims the future"
    );
}

#[test]
fn a_state_that_hapi_did_not_have_is_not_real() {
    assert_eq!(
        broken(&mut usual(), &answer(150, 150, 160, rows(7))),
        [Rule::Real]
    );
    assert_eq!(
        broken(&mut usual(), &answer(150, 150, 160, rows(2))),
        [Rule::Real],
        "not asked for yet"
    );
    let mut refused = book(&[(Some(1), 100, Some(110)), (Some(2), 200, None)]);
    refused.history.past_mut(&key()).end(2, Outcome::Refused);
    assert_eq!(
        broken(&mut refused, &answer(300, 300, 310, rows(2))),
        [Rule::Real]
    );
    assert_eq!(broken(&mut refused, &answer(300, 300, 310, rows(1))), []);
    let strange = vec![vec![
        "somebody".to_owned(),
        "1".to_owned(),
        "true".to_owned(),
        "1:1/1".to_owned(),
    ]];
    let mut all = rows(1);
    all.extend(strange);
    assert_eq!(broken(&mut usual(), &answer(150, 150, 160, all)), [Rule::Real]);
}

#[test]
fn rows_of_two_states_a_missing_and_a_doubled_one_are_not_whole() {
    // Sequence 1 has two names, sequence 2 three.
    let (one, two) = (rows(1), rows(2));
    assert_eq!((one.len(), two.len()), (2, 3));
    let mixed = vec![two[0].clone(), one[1].clone()];
    assert_eq!(broken(&mut usual(), &answer(250, 250, 260, mixed)), [Rule::Whole]);
    assert_eq!(
        broken(&mut usual(), &answer(250, 250, 260, two[..2].to_vec())),
        [Rule::Whole]
    );
    let doubled = [two.clone(), vec![two[2].clone()]].concat();
    assert_eq!(
        broken(&mut usual(), &answer(250, 250, 260, doubled)),
        [Rule::Whole]
    );
    let mut within = two;
    within[1][2] = "false".to_owned();
    assert_eq!(
        broken(&mut usual(), &answer(250, 250, 260, within)),
        [Rule::Whole],
        "a value of another state"
    );
}

#[test]
fn nothing_goes_back_for_whoever_asks_after_an_answer_has_come() {
    let mut book = book(&[(Some(1), 100, Some(110)), (Some(2), 200, Some(900))]);
    assert_eq!(broken(&mut book, &answer(150, 300, 310, rows(2))), []);
    // Asked before that answer was there: PostgreSQL may have been asked in the other order.
    assert_eq!(broken(&mut book, &answer(150, 309, 330, rows(1))), []);
    assert_eq!(
        broken(&mut book, &answer(150, 311, 320, rows(1))),
        [Rule::Forward]
    );
    // A deletion that was shown, and then not.
    let mut book = self::book(&[(Some(1), 100, Some(110)), (None, 200, Some(900))]);
    assert_eq!(broken(&mut book, &answer(150, 300, 310, vec![])), []);
    assert_eq!(
        broken(&mut book, &answer(150, 311, 320, rows(1))),
        [Rule::Forward]
    );
    // A resource that was shown, and then is not there yet.
    let mut book = self::book(&[(Some(1), 100, Some(900))]);
    assert_eq!(broken(&mut book, &answer(50, 200, 210, rows(1))), []);
    assert_eq!(broken(&mut book, &answer(50, 211, 220, vec![])), [Rule::Forward]);
    // as_of itself.
    let mut book = usual();
    assert_eq!(broken(&mut book, &answer(150, 160, 170, rows(1))), []);
    assert_eq!(
        broken(&mut book, &answer(149, 171, 180, rows(1))),
        [Rule::Forward]
    );
    // The batch's answers are older by nature: they are compared among themselves.
    let batch = Answer {
        batch: true,
        ..answer(120, 190, 195, rows(1))
    };
    assert_eq!(broken(&mut book, &batch), []);
}

#[test]
fn what_is_demanded_must_be_in() {
    let demanded = |rows| Answer {
        at_least: Some((key(), 2)),
        ..answer(150, 220, 230, rows)
    };
    assert_eq!(broken(&mut usual(), &demanded(rows(2))), []);
    assert_eq!(broken(&mut usual(), &demanded(rows(1))), [Rule::AtLeast]);
    // An answer without a row cannot be the deletion before it was asked for.
    let mut created = book(&[(Some(1), 100, Some(110))]);
    let absent = Answer {
        at_least: Some((key(), 1)),
        ..answer(50, 120, 130, vec![])
    };
    assert_eq!(broken(&mut created, &absent), [Rule::AtLeast]);
}

#[test]
fn an_answer_must_not_be_older_than_was_allowed() {
    let aged = |as_of| Answer {
        max_staleness: Some(TimeDelta::milliseconds(500)),
        ..answer(as_of, 9_000, 9_010, vec![])
    };
    assert_eq!(broken(&mut Book::default(), &aged(8_500)), []);
    assert_eq!(broken(&mut Book::default(), &aged(8_499)), [Rule::MaxStaleness]);
}

#[test]
fn a_page_holds_what_lies_between_its_ends() {
    let mut book = usual();
    let page = |after: Option<&str>, until: Option<&str>, rows| Answer {
        scope: Scope::Page {
            after: after.map(str::to_owned),
            until: until.map(str::to_owned),
        },
        ..answer(250, 250, 260, rows)
    };
    let (before, behind) = (Some("t-a"), Some("t-z"));
    assert_eq!(broken(&mut book, &page(before, behind, rows(2))), []);
    assert_eq!(broken(&mut book, &page(before, behind, vec![])), [Rule::Complete]);
    assert_eq!(broken(&mut book, &page(behind, None, vec![])), []);
    assert_eq!(broken(&mut book, &page(None, before, vec![])), []);
    // Of a resource in which a page ends some rows are enough, but of one state.
    assert_eq!(
        broken(&mut book, &page(before, Some(A), rows(2)[..1].to_vec())),
        []
    );
    assert_eq!(
        broken(&mut book, &page(Some(A), behind, rows(2)[1..].to_vec())),
        []
    );
    assert_eq!(
        broken(&mut book, &page(Some(A), behind, rows(1))),
        [Rule::Complete]
    );
}

#[test]
fn a_filter_keeps_what_has_the_value() {
    let scope = Scope::Where(2, "true".into());
    let filtered = |as_of, rows| Answer {
        scope: scope.clone(),
        ..answer(as_of, 250, 260, rows)
    };
    // 1 and 2 are active, 3 is not.
    let mut book = book(&[(Some(2), 100, Some(110)), (Some(3), 200, Some(210))]);
    assert_eq!(broken(&mut book, &filtered(150, rows(2))), []);
    assert_eq!(broken(&mut book, &filtered(240, vec![])), []);
    assert_eq!(broken(&mut book, &filtered(240, rows(3))), [Rule::Whole]);
}

#[test]
fn rows_are_counted_between_the_least_and_the_most() {
    let book = usual();
    let counts = |as_of, came| book.counts(View::Names, (at(came), at(as_of), at(came)), &population());
    assert_eq!(counts(150, 160), (2, 2));
    assert_eq!(counts(150, 205), (2, 3));
    assert_eq!(counts(250, 305), (0, 3));
}

#[test]
fn a_cohort_has_whom_it_must_have_and_nobody_else() {
    let mut book = usual();
    let condition = Key {
        resource_type: "Condition",
        id: "t-condition-000".into(),
    };
    // At 0 of home 0, at 3 of home 1; both resolved or not by the number.
    write(
        &mut book,
        &condition,
        &[(Some(2), 100, Some(110)), (Some(4), 200, Some(210))],
    );
    let homes = ["t-home-000", "t-home-001"];
    for home in homes {
        let home = Key {
            resource_type: "Patient",
            id: home.into(),
        };
        write(&mut book, &home, &[(Some(1), 10, Some(20))]);
    }
    let resolved = Criteria::In(View::Resolved, None);
    let names = Criteria::In(View::Names, None);
    let mut broken = |criteria: &Criteria, as_of, came, ids: &[&str]| {
        let cohort = Cohort {
            by: "a test",
            criteria: criteria.clone(),
            asked: at(came),
            came: at(came),
            as_of: at(as_of),
            count: i64::try_from(ids.len()).expect("few"),
            patients: Some(ids.iter().map(ToString::to_string).collect()),
        };
        let found = cohort.check(&mut book, &population());
        found
            .into_iter()
            .map(|violation| violation.rule)
            .collect::<Vec<_>>()
    };
    assert_eq!(broken(&resolved, 150, 160, &homes[..1]), []);
    assert_eq!(broken(&resolved, 220, 230, &homes[1..]), []);
    // While it moves either is right.
    assert_eq!(broken(&resolved, 150, 205, &homes[..1]), []);
    assert_eq!(broken(&resolved, 150, 205, &homes[1..]), []);
    assert_eq!(broken(&resolved, 150, 160, &[]), [Rule::Complete, Rule::Complete]);
    assert!(broken(&resolved, 150, 160, &homes).contains(&Rule::Real));
    assert!(broken(&resolved, 150, 160, &["t-home-000", "nobody"]).contains(&Rule::Real));
    let without = Criteria::All(vec![names.clone(), Criteria::Not(Box::new(resolved.clone()))]);
    assert_eq!(broken(&without, 320, 330, &homes[..1]), []);
    assert!(broken(&without, 320, 330, &homes).contains(&Rule::Real));
    let either = Criteria::Any(vec![resolved, names]);
    assert_eq!(broken(&either, 320, 330, &homes), []);
    assert!(broken(&either, 320, 330, &homes[..1]).contains(&Rule::Complete));
}
