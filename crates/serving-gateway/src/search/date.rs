//! FHIR date search: a value names a range of time (a year, a month, a day, an instant), and so does a value of a column; prefixes compare ranges
//! (FHIR R4, 3.1.1.4.5).
//!
//! Columns of type text hold FHIR's lexical form, in which longer values of one range begin with the shorter ones: ranges can be
//! compared as text, given the shorter forms of the asked value. A time of day in such a column may be of any zone, so these columns take dates only.

use chrono::{DateTime, Days, Months, NaiveDate, NaiveTime, TimeDelta, Utc};
use fhir_core::column::ColumnKind;
use view_store::{Condition, Operator};

/// How an asked range is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefix {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    StartsAfter,
    EndsBefore,
}

/// An asked range: `start <= t < end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) prefix: Prefix,
    pub(super) start: DateTime<Utc>,
    pub(super) end: DateTime<Utc>,
    /// The date as it was given, of a year, month or day; `None` for one with a time.
    date: Option<String>,
}

/// What a value must look like, for messages.
pub(super) const FORM: &str = "a date as YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ssZ, with a prefix eq, ne, gt, ge, lt, le, sa or eb if wanted";

impl Asked {
    /// Parses a value with its prefix; `None` if it is none of [`FORM`].
    pub(super) fn parse(value: &str) -> Option<Self> {
        const PREFIXES: [(&str, Prefix); 8] = [
            ("eq", Prefix::Equal),
            ("ne", Prefix::NotEqual),
            ("gt", Prefix::Greater),
            ("ge", Prefix::GreaterOrEqual),
            ("lt", Prefix::Less),
            ("le", Prefix::LessOrEqual),
            ("sa", Prefix::StartsAfter),
            ("eb", Prefix::EndsBefore),
        ];
        let (prefix, rest) = PREFIXES
            .iter()
            .find_map(|(name, prefix)| Some((*prefix, value.strip_prefix(name)?)))
            .unwrap_or((Prefix::Equal, value));
        if rest.contains('T') {
            let start = DateTime::parse_from_rfc3339(rest).ok()?.to_utc();
            let end = start
                + if rest.contains('.') {
                    TimeDelta::milliseconds(1)
                } else {
                    TimeDelta::seconds(1)
                };
            return Some(Self {
                prefix,
                start,
                end,
                date: None,
            });
        }
        let (first, after) = range(rest)?;
        let date = Some(rest.to_owned());
        Some(Self {
            prefix,
            start: midnight(first),
            end: midnight(after),
            date,
        })
    }

    /// The condition on a column; `None` if a column of this kind cannot be compared with what was asked.
    pub(super) fn on(&self, column: &str, kind: ColumnKind) -> Option<Condition> {
        match kind {
            ColumnKind::Text => Some(on_text(self.prefix, column, self.date.as_deref()?)),
            ColumnKind::Date => {
                self.date.as_ref()?;
                Some(self.on_points(column, &|at| at.date_naive().to_string()))
            }
            ColumnKind::Timestamp => Some(self.on_points(column, &|at| {
                at.naive_utc().format("%Y-%m-%dT%H:%M:%S%.f").to_string()
            })),
            ColumnKind::TimestampTz => Some(self.on_points(column, &|at| at.to_rfc3339())),
            _ => None,
        }
    }

    /// On a resource's `lastUpdated`.
    pub(super) fn on_last_updated(&self) -> Condition {
        self.between(&|at| Condition::UpdatedSince(at))
    }

    /// On a column whose values are points in time.
    fn on_points(&self, column: &str, text: &dyn Fn(DateTime<Utc>) -> String) -> Condition {
        let condition = self.between(&|at| compare(column, Operator::GreaterOrEqual, [text(at)]));
        // What has no value is in no range, not even in the negation of one.
        Condition::All(vec![compare(column, Operator::IsNotNull, []), condition])
    }

    /// The comparison in terms of "at or after".
    fn between(&self, since: &dyn Fn(DateTime<Utc>) -> Condition) -> Condition {
        let not = |condition| Condition::Not(Box::new(condition));
        let (start, end) = (since(self.start), since(self.end));
        match self.prefix {
            Prefix::Equal => Condition::All(vec![start, not(end)]),
            Prefix::NotEqual => Condition::Any(vec![not(start), end]),
            Prefix::Greater | Prefix::StartsAfter => end,
            Prefix::GreaterOrEqual => start,
            Prefix::Less | Prefix::EndsBefore => not(start),
            Prefix::LessOrEqual => not(end),
        }
    }
}

/// The first day of a year, month or day, and the first day after it.
fn range(date: &str) -> Option<(NaiveDate, NaiveDate)> {
    let number = |text: &str, digits: usize| {
        (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse::<u32>().ok())
            .flatten()
    };
    let parts: Vec<&str> = date.split('-').collect();
    let year = i32::try_from(number(parts.first()?, 4)?).ok()?;
    match parts[1..] {
        [] => Some((
            NaiveDate::from_ymd_opt(year, 1, 1)?,
            NaiveDate::from_ymd_opt(year + 1, 1, 1)?,
        )),
        [month] => {
            let first = NaiveDate::from_ymd_opt(year, number(month, 2)?, 1)?;
            Some((first, first.checked_add_months(Months::new(1))?))
        }
        [month, day] => {
            let first = NaiveDate::from_ymd_opt(year, number(month, 2)?, number(day, 2)?)?;
            Some((first, first.checked_add_days(Days::new(1))?))
        }
        _ => None,
    }
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

/// A range of FHIR's lexical form: what begins with `date` lies in it; the shorter forms of `date` are longer ranges that hold it.
fn on_text(prefix: Prefix, column: &str, date: &str) -> Condition {
    let wider: Vec<&str> = [4, 7]
        .into_iter()
        .filter(|length| *length < date.len())
        .map(|length| &date[..length])
        .collect();
    let wider_that = |keep: &dyn Fn((NaiveDate, NaiveDate), (NaiveDate, NaiveDate)) -> bool| {
        let own = range(date);
        let kept = wider
            .iter()
            .filter(|w| range(w).zip(own).is_some_and(|(w, own)| keep(w, own)));
        compare(column, Operator::In, kept.map(|w| (*w).to_owned()))
    };
    let within = || compare(column, Operator::Like, [format!("{date}%")]);
    let from = || compare(column, Operator::GreaterOrEqual, [date.to_owned()]);
    let before = || compare(column, Operator::Less, [date.to_owned()]);
    let not = |condition| Condition::Not(Box::new(condition));
    match prefix {
        Prefix::Equal => within(),
        Prefix::NotEqual => Condition::All(vec![compare(column, Operator::IsNotNull, []), not(within())]),
        Prefix::GreaterOrEqual => Condition::Any(vec![from(), wider_that(&|_, _| true)]),
        Prefix::Greater => Condition::Any(vec![
            Condition::All(vec![from(), not(within())]),
            wider_that(&|wide, own| wide.1 > own.1),
        ]),
        Prefix::StartsAfter => Condition::All(vec![from(), not(within())]),
        Prefix::Less => Condition::All(vec![before(), not(wider_that(&|wide, own| wide.0 == own.0))]),
        Prefix::LessOrEqual => Condition::Any(vec![before(), within()]),
        Prefix::EndsBefore => Condition::All(vec![before(), not(wider_that(&|_, _| true))]),
    }
}

pub(super) fn compare(
    column: &str,
    operator: Operator,
    values: impl IntoIterator<Item = String>,
) -> Condition {
    Condition::Compare {
        column: column.to_owned(),
        operator,
        values: values.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PostgreSQL makes of a condition on one text value, under collation C.
    fn holds(condition: &Condition, value: Option<&str>) -> bool {
        match condition {
            Condition::Compare { operator, values, .. } => value.is_some_and(|v| match operator {
                Operator::GreaterOrEqual => v >= values[0].as_str(),
                Operator::Less => v < values[0].as_str(),
                Operator::In => values.iter().any(|w| w == v),
                Operator::Like => v.starts_with(values[0].trim_end_matches('%')),
                Operator::IsNotNull => true,
                other => panic!("{other:?} is not used"),
            }),
            Condition::All(all) => all.iter().all(|c| holds(c, value)),
            Condition::Any(any) => any.iter().any(|c| holds(c, value)),
            Condition::Not(inner) => !holds(inner, value),
            other => panic!("{other:?} is not used"),
        }
    }

    /// FHIR's definition, on ranges of days.
    fn expected(prefix: Prefix, asked: &str, value: &str) -> bool {
        let (a, v) = (
            range(asked).expect("asked"),
            range(&value[..value.len().min(10)]).expect("value"),
        );
        match prefix {
            Prefix::Equal => a.0 <= v.0 && v.1 <= a.1,
            Prefix::NotEqual => !(a.0 <= v.0 && v.1 <= a.1),
            Prefix::Greater => v.1 > a.1,
            Prefix::GreaterOrEqual => v.1 > a.0,
            Prefix::Less => v.0 < a.0,
            Prefix::LessOrEqual => v.0 < a.1,
            Prefix::StartsAfter => v.0 >= a.1,
            Prefix::EndsBefore => v.1 <= a.0,
        }
    }

    #[test]
    fn ranges_of_text_compare_as_fhir_says() {
        let dates = [
            "1949",
            "1950",
            "1951",
            "1950-01",
            "1950-06",
            "1950-12",
            "1949-12",
            "1951-01",
            "1950-01-01",
            "1950-06-01",
            "1950-06-15",
            "1950-06-30",
            "1950-12-31",
            "1951-01-01",
            "1949-12-31",
        ];
        let prefixes = ["eq", "ne", "gt", "ge", "lt", "le", "sa", "eb"];
        for asked in dates {
            for prefix in prefixes {
                let parsed = Asked::parse(&format!("{prefix}{asked}")).expect("a date");
                let condition = parsed
                    .on("birth_date", ColumnKind::Text)
                    .expect("text takes dates");
                for value in dates
                    .iter()
                    .map(|d| (*d).to_owned())
                    .chain(["1950-06-15T23:30:00+02:00".to_owned()])
                {
                    assert_eq!(
                        holds(&condition, Some(&value)),
                        expected(parsed.prefix, asked, &value),
                        "{prefix}{asked} against {value}"
                    );
                }
                assert!(!holds(&condition, None), "{prefix}{asked} against nothing");
            }
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for value in [
            "",
            "ge",
            "195",
            "1950-13",
            "1950-02-30",
            "1950-1-1",
            "ap1950",
            "1950-06-15T10:00",
            "yesterday",
            "+950",
            "1950-06-15-01",
        ] {
            assert_eq!(Asked::parse(value), None, "{value}");
        }
    }

    #[test]
    fn times_need_columns_that_know_their_zone() {
        let asked = Asked::parse("ge2026-01-01T10:00:00+01:00").expect("a time");
        assert!(asked.on("effective", ColumnKind::Text).is_none());
        assert!(asked.on("issued", ColumnKind::TimestampTz).is_some());
        assert!(asked.on("amount", ColumnKind::Decimal).is_none());
    }
}
