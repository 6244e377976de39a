//! How states, previews and positions are written in Redis: text, with times as whole microseconds since 1970.

use api::{
    TraceContext,
    speed::{Preview, Reading},
};
use chrono::{DateTime, TimeDelta, Utc};
use fhir_core::{
    merge::Position,
    resource::{Content, State},
};

use super::{SavedReading, StoreError};

/// The fields of a reading, as `read_bodies.lua` gives them: n, `as_of`, version, `last_updated`, deleted, body, unreadable, `received_at`.
pub(super) type Fields = Vec<Option<Vec<u8>>>;

pub(super) fn reading(id: String, fields: &mut Fields) -> Result<SavedReading, StoreError> {
    let [
        n,
        as_of,
        version,
        last_updated,
        deleted,
        body,
        unreadable,
        received,
    ] = fields.as_mut_slice()
    else {
        return Err(StoreError::Corrupt("readings"));
    };
    let corrupt = || StoreError::Corrupt("readings");
    let unreadable = String::from_utf8(unreadable.take().unwrap_or_default()).map_err(|_| corrupt())?;
    let deleted = deleted.as_deref() == Some(b"1");
    let content = Content::from_parts(deleted, body.take().unwrap_or_default(), unreadable);
    let state = State {
        id,
        version: number(version.as_deref()).ok_or_else(corrupt)?,
        last_updated: time(last_updated.as_deref()).ok_or_else(corrupt)?,
        content,
    };
    let reading = Reading {
        state,
        n: number(n.as_deref()).ok_or_else(corrupt)?,
        as_of: time(as_of.as_deref()).ok_or_else(corrupt)?,
    };
    let received = time(received.as_deref()).ok_or_else(corrupt)?;
    Ok(SavedReading { reading, received })
}

/// Microseconds since 1970.
fn time(bytes: Option<&[u8]>) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(number(bytes)?)
}

/// `id version last_updated received kind`, the place in a trace where one is recorded, a line feed, and the body. Where it has a time to live, `put_preview.lua` puts its end last
/// into that line.
pub(super) fn encode_preview(state: &State, received: DateTime<Utc>, trace: Option<TraceContext>) -> Vec<u8> {
    let (kind, body) = match &state.content {
        Content::Body(body) => ("body", body.as_slice()),
        Content::Deleted => ("deleted", &[][..]),
        Content::Unreadable(reason) => ("unreadable", reason.as_bytes()),
    };
    let State {
        id,
        version,
        last_updated,
        ..
    } = state;
    let trace = trace.map(|trace| format!(" {trace}")).unwrap_or_default();
    let head = format!(
        "{id} {version} {} {} {kind}{trace}\n",
        last_updated.timestamp_micros(),
        received.timestamp_micros()
    );
    [head.as_bytes(), body].concat()
}

/// `None`: it is over at `now`, the time of Redis.
pub(super) fn decode_preview(mut entry: Vec<u8>, now: DateTime<Utc>) -> Result<Option<Preview>, StoreError> {
    let corrupt = || StoreError::Corrupt("previews");
    let end = entry.iter().position(|byte| *byte == b'\n').ok_or_else(corrupt)?;
    let body = entry.split_off(end + 1);
    let head = std::str::from_utf8(&entry[..end]).map_err(|_| corrupt())?;
    let fields: Vec<&str> = head.split(' ').collect();
    let [id, version, last_updated, received, kind, further @ ..] = fields.as_slice() else {
        return Err(corrupt());
    };
    let trace = further.first().and_then(|field| TraceContext::parse(field));
    let ends = match &further[usize::from(trace.is_some())..] {
        [] => None,
        [ends] => Some(time(Some(ends.as_bytes())).ok_or_else(corrupt)?),
        _ => return Err(corrupt()),
    };
    if ends.is_some_and(|ends| ends <= now) {
        return Ok(None);
    }
    let content = match *kind {
        "body" => Content::Body(body),
        "deleted" => Content::Deleted,
        "unreadable" => Content::Unreadable(String::from_utf8(body).map_err(|_| corrupt())?),
        _ => return Err(corrupt()),
    };
    let state = State {
        id: (*id).to_owned(),
        version: version.parse().map_err(|_| corrupt())?,
        last_updated: time(Some(last_updated.as_bytes())).ok_or_else(corrupt)?,
        content,
    };
    Ok(Some(Preview {
        state,
        received: time(Some(received.as_bytes())).ok_or_else(corrupt)?,
        trace,
    }))
}

/// What `TIME` answers: seconds and microseconds.
pub(super) fn redis_time((seconds, micros): (i64, i64)) -> Result<DateTime<Utc>, StoreError> {
    DateTime::from_timestamp(seconds, 0)
        .and_then(|at| at.checked_add_signed(TimeDelta::microseconds(micros)))
        .ok_or(StoreError::Corrupt("clock"))
}

/// `n as_of bound xmin timeline`; the timeline is last, as it is another program's text.
pub(super) fn encode_position(position: &Position) -> String {
    let Position {
        n,
        as_of,
        bound,
        xmin,
        timeline,
    } = position;
    format!(
        "{n} {} {} {xmin} {timeline}",
        as_of.timestamp_micros(),
        bound.timestamp_micros()
    )
}

pub(super) fn decode_position(text: &str) -> Result<Position, StoreError> {
    let mut fields = text.splitn(5, ' ');
    let mut next = || fields.next().ok_or(StoreError::Corrupt("mark"));
    let number = |text: &str| text.parse::<i64>().map_err(|_| StoreError::Corrupt("mark"));
    let at = |text: &str| time(Some(text.as_bytes())).ok_or(StoreError::Corrupt("mark"));
    Ok(Position {
        n: number(next()?)?,
        as_of: at(next()?)?,
        bound: at(next()?)?,
        xmin: next()?.parse().map_err(|_| StoreError::Corrupt("mark"))?,
        timeline: next()?.to_owned(),
    })
}

fn number(bytes: Option<&[u8]>) -> Option<i64> {
    std::str::from_utf8(bytes?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn at(micros: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(micros).unwrap()
    }

    #[test]
    fn a_preview_survives_the_queue_byte_by_byte() {
        for content in [
            Content::Body(b"{\"resourceType\":\"Patient\",\n\"x\":\"\xc3\xa9\"}".to_vec()),
            Content::Body(Vec::new()),
            Content::Deleted,
            Content::Unreadable("kept in an external store".into()),
        ] {
            let state = State {
                id: "a.b-1".into(),
                version: 7,
                last_updated: at(1_700_000_000_123_456),
                content,
            };
            for trace in [None, TraceContext::parse(TRACE)] {
                let entry = encode_preview(&state, at(-5), trace);
                let expected = Preview {
                    state: state.clone(),
                    received: at(-5),
                    trace,
                };
                assert_eq!(decode_preview(entry, at(i64::MAX / 2)).unwrap(), Some(expected));
            }
        }
    }

    #[test]
    fn a_preview_in_a_trace_may_have_an_end() {
        let entry = || format!("a 7 1 2 body {TRACE} 10\n{{}}").into_bytes();
        let preview = decode_preview(entry(), at(9)).unwrap().expect("it is not over");
        assert_eq!(
            preview.trace.map(|trace| trace.to_string()).as_deref(),
            Some(TRACE)
        );
        assert_eq!(decode_preview(entry(), at(10)).unwrap(), None);
    }

    #[test]
    fn a_preview_without_an_end_is_one_of_the_version_before_and_stays() {
        let decoded = |entry: &str, now| {
            let preview = decode_preview(entry.into(), at(now)).unwrap();
            preview.map(|preview| (preview.state.version, preview.received, preview.state.content))
        };
        let body = || Content::Body(b"{ \n}".to_vec());
        assert_eq!(
            decoded("a 7 1 2 body\n{ \n}", i64::MAX / 2),
            Some((7, at(2), body()))
        );
        assert_eq!(decoded("a 7 1 2 body 10\n{ \n}", 9), Some((7, at(2), body())));
        assert_eq!(decoded("a 7 1 2 body 10\n{ \n}", 10), None);
    }

    #[test]
    fn a_position_survives_whatever_the_timeline_holds() {
        for timeline in ["7301/1", "", "a b c"] {
            let position = Position {
                n: 1 << 52,
                as_of: at(2),
                bound: at(-900_000),
                xmin: u64::MAX,
                timeline: timeline.into(),
            };
            assert_eq!(decode_position(&encode_position(&position)).unwrap(), position);
        }
        assert!(matches!(decode_position("1 2"), Err(StoreError::Corrupt("mark"))));
    }

    #[test]
    fn foreign_entries_are_named_not_shown() {
        for entry in [
            "something else",
            "\n",
            "a 1 2 3 body 4 5\n",
            "a 1 2 3 body 4 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n",
            "a 1 2 3 body 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0\n",
            "a 1 2 3 body x\n",
            "a 1 2 3 body \n",
            "a 1 2 3\n",
        ] {
            let error = decode_preview(entry.into(), at(0)).unwrap_err();
            assert!(error.to_string().contains("previews"), "{error}");
        }
        assert!(reading("a".into(), &mut vec![None; 8]).is_err());
    }
}
