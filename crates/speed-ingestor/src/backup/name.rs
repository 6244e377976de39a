//! Names of backups.

use std::fmt;

use chrono::{DateTime, NaiveDateTime, Utc};

const TIME: &str = "%Y%m%dT%H%M%S%3fZ";

/// When it was begun, in UTC, and who made it: `20261128T030000123Z-0123456789abcdef`. So names sort by time, and nothing else is taken for a backup.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupName(String);

impl BackupName {
    /// A name for a backup that begins now; `token` is 16 hexadecimal digits.
    pub fn new(now: DateTime<Utc>, token: &str) -> Self {
        Self(format!("{}-{token}", now.format(TIME)))
    }

    /// A text that is a name.
    pub fn parse(text: &str) -> Option<Self> {
        let (time, token) = text.split_once('-')?;
        let named = NaiveDateTime::parse_from_str(time, TIME)
            .is_ok_and(|at| at.format(TIME).to_string() == time)
            && token.len() == 16
            && token.bytes().all(|byte| byte.is_ascii_hexdigit());
        named.then(|| Self(text.to_owned()))
    }

    /// When it was begun.
    pub fn at(&self) -> DateTime<Utc> {
        let (time, _) = self.0.split_once('-').unwrap_or_default();
        NaiveDateTime::parse_from_str(time, TIME)
            .unwrap_or_default()
            .and_utc()
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time_and_say_it() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let name = BackupName::new(at("2026-11-28T03:00:00.120Z"), "0123456789abcdef");
        assert_eq!(name.as_str(), "20261128T030000120Z-0123456789abcdef");
        assert_eq!(name.at(), at("2026-11-28T03:00:00.120Z"));
        assert_eq!(BackupName::parse(name.as_str()), Some(name.clone()));
        assert!(name < BackupName::new(at("2026-11-28T03:00:00.121Z"), "0000000000000000"));
    }

    #[test]
    fn nothing_else_is_a_backup() {
        for other in [
            "",
            "..",
            "Patient",
            "20261128T030000120Z",
            "20261128T030000120Z-..",
            "20261328T030000120Z-0123456789abcdef",
            "20261128T030000120Z-0123456789abcdef/x",
        ] {
            assert_eq!(BackupName::parse(other), None, "{other}");
        }
    }
}
