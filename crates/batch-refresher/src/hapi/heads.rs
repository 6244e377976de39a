//! The resources of a range without their texts, and how each meets its own: the join of HAPI's two tables, as far as it is ours.

use bytes::Bytes;
use chrono::NaiveDateTime;
use futures::TryStreamExt as _;
use sqlx::PgConnection;

use super::{
    HapiError, IdRange, Schema,
    range::{DOING, copy_out, malformed},
    schema::literal,
    states::{MetaRead, TAGS},
    tuples::{Malformed, Tuple, Tuples},
};

/// Resources of which the heads are in memory at a time, at most.
const HEADS: usize = 50_000;
/// Old versions that are sent for nothing, for each current one, rather than left out by a join.
const OLD_VERSIONS: f64 = 0.3;

impl Schema {
    /// A query for the first resources of a range, whose rows [`Head::of`] takes.
    ///
    /// PostgreSQL takes as long for a column as for a kilobyte of text, so what nobody asks for is left out.
    pub(super) fn heads(&self, resource_type: &str, range: IdRange, meta: MetaRead) -> String {
        let Self {
            id,
            id_join,
            partition,
            ..
        } = self;
        let tags = if meta.tags { TAGS } else { "NULL::bigint[]" };
        format!(
            "SELECT r.res_id::bigint, {id}::text, r.res_ver::bigint, r.res_updated::timestamp, r.res_deleted_at IS NOT NULL, {tags} \
             FROM hfj_resource r{id_join} WHERE r.res_type = {}{}{partition} ORDER BY r.res_id LIMIT {HEADS}",
            literal(resource_type),
            range.condition("r.res_id"),
        )
    }

    /// A query for the versions of a range that are usual: JSON beside the version. [`Text::of`] takes its rows. With `all` they are versions that are old
    /// already, too.
    pub(super) fn texts(&self, resource_type: &str, range: IdRange, meta: MetaRead, all: bool) -> String {
        let Self {
            text_vc,
            source_join,
            partition,
            ..
        } = self;
        let (request_id, source_uri, source_join) = if meta.source {
            (self.request_id, self.source_uri, *source_join)
        } else {
            ("NULL", "NULL", "")
        };
        let (resource_type, versions) = (literal(resource_type), range.condition("v.res_id"));
        // The bounds are said of both tables: PostgreSQL does not conclude the one from the other.
        let from = if all {
            format!("hfj_res_ver v{source_join} WHERE v.res_type = {resource_type}{versions}")
        } else {
            format!(
                "hfj_resource r JOIN hfj_res_ver v ON v.res_id = r.res_id AND v.res_ver = r.res_ver{versions}{source_join} \
                 WHERE r.res_type = {resource_type}{}{partition}",
                range.condition("r.res_id")
            )
        };
        format!(
            "SELECT v.res_id::bigint, v.res_ver::bigint, CASE WHEN v.res_encoding = 'JSON' THEN {text_vc}::text END, {request_id}::text, {source_uri}::text FROM {from}"
        )
    }
}

/// A resource without its text.
pub(super) struct Head {
    pub(super) id: String,
    pub(super) version: i64,
    pub(super) updated: NaiveDateTime,
    pub(super) tags: Vec<i64>,
    deleted: bool,
}

impl Head {
    fn of(row: &Tuple<'_, 6>) -> Result<(i64, Self), Malformed> {
        let head = Self {
            id: row.text(1)?.ok_or(Malformed)?.to_owned(),
            version: row.bigint(2)?.ok_or(Malformed)?,
            updated: row.timestamp(3)?.ok_or(Malformed)?,
            deleted: row.boolean(4)?.ok_or(Malformed)?,
            tags: row.bigints(5)?.unwrap_or_default(),
        };
        Ok((row.bigint(0)?.ok_or(Malformed)?, head))
    }
}

/// The text of a version, as it was received.
pub(super) struct Text {
    row: i64,
    version: i64,
    pub(super) body: Bytes,
    pub(super) request_id: Option<String>,
    pub(super) source_uri: Option<String>,
}

impl Text {
    /// Nothing of a version that has none beside it.
    pub(super) fn of(row: &Tuple<'_, 5>) -> Result<Option<Self>, Malformed> {
        let Some(body) = row.bytes(2)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            row: row.bigint(0)?.ok_or(Malformed)?,
            version: row.bigint(1)?.ok_or(Malformed)?,
            body,
            request_id: row.text(3)?.map(ToOwned::to_owned),
            source_uri: row.text(4)?.map(ToOwned::to_owned),
        }))
    }
}

/// The resources of a range, by HAPI's row number, each until it meets its text.
///
/// Both tables are read along an index on the row number, or come in the order in which they were written; so the next text is mostly that of the next
/// resource.
pub(super) struct Heads {
    /// In the order of their row numbers.
    all: Vec<(i64, Option<Head>)>,
    /// Behind the last one that met its text.
    next: usize,
    /// Old versions that there can be: HAPI numbers them from 1.
    old_versions: i64,
}

impl Heads {
    pub(super) async fn read(connection: &mut PgConnection, sql: String) -> Result<Self, HapiError> {
        let mut received = copy_out(connection, &sql).await?;
        let (mut tuples, mut heads) = (Tuples::default(), Vec::new());
        while let Some(message) = received.try_next().await.map_err(HapiError::of(DOING))? {
            tuples
                .take(message, |row| {
                    heads.push(Head::of(row)?);
                    Ok::<_, Malformed>(())
                })
                .map_err(malformed)?;
        }
        if tuples.ended() {
            Ok(Self::of(heads))
        } else {
            Err(malformed(Malformed))
        }
    }

    fn of(heads: Vec<(i64, Head)>) -> Self {
        Self {
            old_versions: heads.iter().map(|(_, head)| head.version - 1).sum(),
            all: heads
                .into_iter()
                .map(|(number, head)| (number, Some(head)))
                .collect(),
            next: 0,
        }
    }

    /// The part of the range that they are all of, and what is left of it.
    pub(super) fn part_of(&self, range: IdRange) -> (IdRange, Option<IdRange>) {
        match self.all.last() {
            Some((last, _)) if self.all.len() >= HEADS => {
                let end = Some(last + 1);
                (IdRange { to: end, ..range }, Some(IdRange { from: end, ..range }))
            }
            _ => (range, None),
        }
    }

    pub(super) fn have_few_old_versions(&self) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
        let (old, current) = (self.old_versions as f64, self.all.len() as f64);
        old <= current * OLD_VERSIONS
    }

    /// The resource that this is the current text of.
    pub(super) fn meet(&mut self, text: &Text) -> Option<Head> {
        let place = match self.all.get(self.next) {
            Some((number, _)) if *number == text.row => self.next,
            _ => self
                .all
                .binary_search_by_key(&text.row, |(number, _)| *number)
                .ok()?,
        };
        let (_, waiting) = self.all.get_mut(place)?;
        let met = waiting.take_if(|head| head.version == text.version && !head.deleted)?;
        self.next = place + 1;
        Some(met)
    }

    /// The ids of those that no text has met.
    pub(super) fn without_text(self) -> Vec<String> {
        let left = self.all.into_iter().filter_map(|(_, head)| head);
        left.map(|head| head.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(row: i64, version: i64) -> Text {
        Text {
            row,
            version,
            body: Bytes::new(),
            request_id: None,
            source_uri: None,
        }
    }

    fn heads(all: impl IntoIterator<Item = (i64, i64, bool)>) -> Heads {
        let all = all.into_iter().map(|(row, version, deleted)| {
            let head = Head {
                id: format!("r{row}"),
                version,
                updated: NaiveDateTime::default(),
                tags: Vec::new(),
                deleted,
            };
            (row, head)
        });
        Heads::of(all.collect())
    }

    #[test]
    fn a_text_meets_its_resource_once_whatever_comes_before() {
        let mut heads = heads([(1, 1, false), (2, 3, false), (5, 2, true), (9, 1, false)]);
        let mut met = |row, version| heads.meet(&text(row, version)).map(|head| head.id);
        assert_eq!(met(2, 1), None, "an old version");
        assert_eq!(met(9, 1).as_deref(), Some("r9"));
        assert_eq!(met(2, 3).as_deref(), Some("r2"), "out of order");
        assert_eq!(met(2, 3), None, "twice");
        assert_eq!(met(3, 1), None, "of no resource");
        assert_eq!(met(5, 2), None, "deleted");
        assert_eq!(heads.without_text(), ["r1", "r5"]);
    }

    #[test]
    fn many_old_versions_are_left_out_by_postgresql() {
        let first_versions =
            |changed: i64| heads((0..10).map(|row| (row, 1 + i64::from(row < changed), false)));
        assert!(first_versions(3).have_few_old_versions());
        assert!(!first_versions(4).have_few_old_versions());
        assert!(heads([]).have_few_old_versions());
    }

    #[test]
    fn a_range_of_too_many_is_read_in_parts() {
        let range = IdRange {
            from: Some(5),
            to: None,
        };
        assert_eq!(heads([(7, 1, false)]).part_of(range), (range, None));
        assert_eq!(heads([]).part_of(range), (range, None));
        let most = i64::try_from(HEADS).unwrap();
        let (part, rest) = heads((0..most).map(|row| (10 + row, 1, false))).part_of(range);
        let end = Some(10 + most);
        assert_eq!(part, IdRange { to: end, ..range });
        assert_eq!(rest, Some(IdRange { from: end, ..range }));
    }
}
