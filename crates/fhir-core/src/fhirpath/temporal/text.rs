//! Dates and times in the lexical form of FHIR, as precise as they are.

use std::fmt;

use chrono::{Datelike, Timelike};

use super::{Precision, Temporal};

impl fmt::Display for Temporal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_time() {
            return self.write_time(f);
        }
        let date = self.local.date();
        write!(f, "{:04}", date.year())?;
        if self.precision >= Precision::Month {
            write!(f, "-{:02}", date.month())?;
        }
        if self.precision >= Precision::Day {
            write!(f, "-{:02}", date.day())?;
        }
        if self.precision < Precision::Hour {
            return Ok(());
        }
        f.write_str("T")?;
        self.write_time(f)?;
        match self.offset {
            None => Ok(()),
            Some(0) => f.write_str("Z"),
            Some(minutes) => {
                let sign = if minutes < 0 { '-' } else { '+' };
                let minutes = minutes.unsigned_abs();
                write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
        }
    }
}

impl Temporal {
    fn write_time(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = self.local.time();
        write!(f, "{:02}", time.hour())?;
        if self.precision >= Precision::Minute {
            write!(f, ":{:02}", time.minute())?;
        }
        if self.precision < Precision::Second {
            return Ok(());
        }
        // A leap second is kept as the 59th with a second's nanoseconds more.
        let leap = time.nanosecond() / 1_000_000_000;
        write!(f, ":{:02}", time.second() + leap)?;
        let digits = usize::from(self.digits);
        if digits > 0 {
            let nanos = format!("{:09}", time.nanosecond() % 1_000_000_000);
            write!(f, ".{}", &nanos[..digits])?;
        }
        Ok(())
    }
}
