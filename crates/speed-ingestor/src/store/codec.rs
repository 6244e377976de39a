//! How states, previews and positions are written in Redis: text, with times as whole microseconds since 1970.

use api::speed::{Preview, Reading};
use chrono::{DateTime, Utc};
use fhir_core::{
    merge::Position,
    resource::{Content, State},
};

use super::StoreError;

/// The fields of a reading, as `read_bodies.lua` gives them: n, `as_of`, version, `last_updated`, deleted, body, unreadable.
pub(super) type Fields = Vec<Option<Vec<u8>>>;

pub(super) fn reading(id: String, fields: &mut Fields) -> Result<Reading, StoreError> {
    let [n, as_of, version, last_updated, deleted, body, unreadable] = fields.as_mut_slice() else {
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
    Ok(Reading {
        state,
        n: number(n.as_deref()).ok_or_else(corrupt)?,
        as_of: time(as_of.as_deref()).ok_or_else(corrupt)?,
    })
}

/// Microseconds since 1970.
pub(super) fn time(bytes: Option<&[u8]>) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(number(bytes)?)
}

/// `id version last_updated received kind`, a line feed, and the body.
pub(super) fn encode_preview(state: &State, received: DateTime<Utc>) -> Vec<u8> {
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
    let head = format!(
        "{id} {version} {} {} {kind}\n",
        last_updated.timestamp_micros(),
        received.timestamp_micros()
    );
    [head.as_bytes(), body].concat()
}

pub(super) fn decode_preview(mut entry: Vec<u8>) -> Result<Preview, StoreError> {
    let corrupt = || StoreError::Corrupt("previews");
    let end = entry.iter().position(|byte| *byte == b'\n').ok_or_else(corrupt)?;
    let body = entry.split_off(end + 1);
    let head = std::str::from_utf8(&entry[..end]).map_err(|_| corrupt())?;
    let fields: Vec<&str> = head.split(' ').collect();
    let &[id, version, last_updated, received, kind] = fields.as_slice() else {
        return Err(corrupt());
    };
    let content = match kind {
        "body" => Content::Body(body),
        "deleted" => Content::Deleted,
        "unreadable" => Content::Unreadable(String::from_utf8(body).map_err(|_| corrupt())?),
        _ => return Err(corrupt()),
    };
    let state = State {
        id: id.to_owned(),
        version: version.parse().map_err(|_| corrupt())?,
        last_updated: time(Some(last_updated.as_bytes())).ok_or_else(corrupt)?,
        content,
    };
    Ok(Preview {
        state,
        received: time(Some(received.as_bytes())).ok_or_else(corrupt)?,
    })
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
            let preview = decode_preview(encode_preview(&state, at(-5))).unwrap();
            assert_eq!(
                preview,
                Preview {
                    state,
                    received: at(-5)
                }
            );
        }
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
        let error = decode_preview(b"something else".to_vec()).unwrap_err();
        assert!(error.to_string().contains("previews"), "{error}");
        assert!(reading("a".into(), &mut vec![None; 7]).is_err());
    }
}
