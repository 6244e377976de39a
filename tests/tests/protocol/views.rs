//! The views' database as it lies: read whole after a step, and put back as a crash of PostgreSQL leaves it.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::model::{Entry, Holds, Mark, Position, Views};

/// The model's views, and the definitions that stand for them.
pub(crate) const VIEWS: [(&str, &str); 2] = [("A", "view_a"), ("B", "view_b")];
const TABLES: [&str; 3] = ["base", "live", "shadowed"];

/// Notes with each change of the protocol's rows whether its transaction waits for the disk.
const WATCH: &str = "
    CREATE SCHEMA watch;
    CREATE TABLE watch.commits (waits boolean NOT NULL);
    CREATE FUNCTION watch.note() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN INSERT INTO watch.commits VALUES (current_setting('synchronous_commit') <> 'off'); RETURN NULL; END$$;
    CREATE TRIGGER watch AFTER INSERT OR UPDATE OR DELETE ON sqlonfhir_meta.reading FOR EACH ROW EXECUTE FUNCTION watch.note();
    CREATE TRIGGER watch AFTER INSERT OR UPDATE OR DELETE ON sqlonfhir_meta.ledger FOR EACH ROW EXECUTE FUNCTION watch.note();
    CREATE TRIGGER watch AFTER UPDATE ON sqlonfhir_meta.resource_type FOR EACH ROW EXECUTE FUNCTION watch.note();
";

pub(crate) struct ViewsDb {
    connection: PgConnection,
    /// What a crash leaves: the state after the last commit that waited for the disk.
    durable: Value,
    /// View B has joined: it leaves with the schedule.
    both: bool,
}

/// A definition of one of the model's views.
pub(crate) fn definition(name: &str, url: &str) -> String {
    format!(
        r#"{{"resourceType":"ViewDefinition","name":"{name}","status":"active","resource":"Patient",
            "select":[{{"forEach":"extension('{url}')","column":[{{"name":"value","path":"value.ofType(integer)","type":"integer"}}]}}]}}"#
    )
}

impl ViewsDb {
    pub(crate) async fn open(url: &str) -> anyhow::Result<Self> {
        let mut connection = PgConnection::connect(url).await?;
        sqlx::raw_sql(WATCH).execute(&mut connection).await?;
        Ok(Self {
            connection,
            durable: Value::Null,
            both: false,
        })
    }

    /// View A, empty, never published; no view B.
    pub(crate) async fn reset(&mut self) -> anyhow::Result<()> {
        let tables = TABLES
            .map(|table| format!("DELETE FROM sqlonfhir_{table}.view_a; "))
            .concat();
        // Not TRUNCATE: every connection would have to plan all of its statements again.
        let sql = format!(
            "{tables} DELETE FROM sqlonfhir_meta.ledger; DELETE FROM sqlonfhir_meta.error; UPDATE sqlonfhir_meta.reading SET n = 0;
             UPDATE sqlonfhir_meta.resource_type SET speed_n = NULL, speed_as_of = NULL, published_n = NULL, published_as_of = NULL,
                 published_bound = NULL, published_xmin = NULL, published_timeline = NULL, newest = 0;
             UPDATE sqlonfhir_meta.view SET row_count = 0; DELETE FROM watch.commits;",
        );
        self.execute(sql).await?;
        self.both = false;
        let (now, _) = self.read().await?;
        self.durable = now;
        Ok(())
    }

    /// Everything that the protocol keeps, and whether a commit since the last look has waited for the disk.
    async fn read(&mut self) -> anyhow::Result<(Value, bool)> {
        // Tables that are there but not joined yet are not the protocol's.
        let joined =
            "SELECT EXISTS (SELECT FROM sqlonfhir_meta.view WHERE name = 'view_b' AND state = 'active')";
        if !self.both {
            self.both = sqlx::query_scalar(joined).fetch_one(&mut self.connection).await?;
        }
        let both = self.both;
        let rows = |table: &str| format!("(SELECT coalesce(json_agg(t), '[]') FROM {table} t)");
        let mut tables = vec![
            "sqlonfhir_meta.reading".to_owned(),
            "sqlonfhir_meta.resource_type".into(),
            "sqlonfhir_meta.ledger".into(),
        ];
        for (_, view) in VIEWS.iter().take(if both { 2 } else { 1 }) {
            tables.extend(TABLES.map(|table| format!("sqlonfhir_{table}.{view}")));
        }
        let list: Vec<String> = tables.iter().map(|t| format!("'{t}', {}", rows(t))).collect();
        let sql = format!(
            "WITH noted AS (DELETE FROM watch.commits RETURNING waits)
             SELECT json_build_object({}), coalesce((SELECT bool_or(waits) FROM noted), false)",
            list.join(", ")
        );
        let (all, waited): (Value, bool) = sqlx::query_as(AssertSqlSafe(sql))
            .fetch_one(&mut self.connection)
            .await?;
        Ok((all, waited))
    }

    /// What the views' database holds now, as the model would write it; what is durable moves on if a commit has waited.
    pub(crate) async fn look(&mut self) -> anyhow::Result<Seen> {
        let (now, waited) = self.read().await?;
        let seen = Seen::of(&now)?;
        if waited {
            self.durable = now;
        }
        Ok(seen)
    }

    /// All that is committed is on the disk.
    pub(crate) async fn flush(&mut self) -> anyhow::Result<()> {
        self.durable = self.read().await?.0;
        Ok(())
    }

    /// PostgreSQL crashes: rows, ledger, cursor and watermark are as of one and the same commit.
    pub(crate) async fn crash(&mut self) -> anyhow::Result<()> {
        let tables = self.durable.as_object().context("nothing durable")?.clone();
        let mut transaction = self.connection.begin().await?;
        for (table, rows) in tables {
            sqlx::raw_sql(AssertSqlSafe(format!("DELETE FROM {table}")))
                .execute(&mut *transaction)
                .await?;
            sqlx::query(AssertSqlSafe(format!(
                "INSERT INTO {table} SELECT * FROM jsonb_populate_recordset(NULL::{table}, $1)"
            )))
            .bind(rows)
            .execute(&mut *transaction)
            .await?;
        }
        sqlx::raw_sql("DELETE FROM watch.commits")
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn execute(&mut self, sql: String) -> anyhow::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }
}

/// The part of [`Holds`] that lies in the views' database.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) views: Views,
    pub(crate) number: i64,
    pub(crate) newest: i64,
    pub(crate) ledger: BTreeMap<String, Entry>,
    pub(crate) speed: Option<Mark>,
    pub(crate) published: Option<Position>,
}

impl Seen {
    /// The same part of what the model holds.
    pub(crate) fn expected(holds: &Holds) -> Self {
        let Holds {
            views,
            number,
            newest,
            ledger,
            speed,
            published,
            ..
        } = holds.clone();
        Self {
            views,
            number,
            newest,
            ledger,
            speed,
            published,
        }
    }

    fn of(all: &Value) -> anyhow::Result<Self> {
        let rows = |table: &str| {
            all.get(table)
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .unwrap_or_default()
        };
        let mut views = BTreeMap::new();
        for (name, view) in VIEWS {
            if all.get(format!("sqlonfhir_base.{view}")).is_none() {
                continue;
            }
            let mut tables = BTreeMap::new();
            for table in TABLES {
                let mut found = Vec::new();
                for row in rows(&format!("sqlonfhir_{table}.{view}")) {
                    found.push((
                        text(row, "_rid")?,
                        number(row, "_version")?,
                        time(row, "_updated")?,
                        number(row, "_row")?,
                        number(row, "value")?,
                    ));
                }
                found.sort();
                tables.insert(table.to_owned(), found);
            }
            views.insert(name.to_owned(), tables);
        }
        let mut ledger = BTreeMap::new();
        for row in rows("sqlonfhir_meta.ledger") {
            let received = if row["received"].is_null() {
                None
            } else {
                Some(time(row, "received")?)
            };
            let entry = Entry {
                n: number(row, "n")?,
                version: number(row, "version")?,
                layer: text(row, "layer")?,
                received,
            };
            ledger.insert(text(row, "id")?, entry);
        }
        let types = rows("sqlonfhir_meta.resource_type");
        let state = types
            .iter()
            .find(|row| row["type"] == "Patient")
            .context("the type is missing")?;
        let speed = if state["speed_n"].is_null() {
            None
        } else {
            Some(Mark {
                n: number(state, "speed_n")?,
                as_of: time(state, "speed_as_of")?,
            })
        };
        let published = if state["published_n"].is_null() {
            None
        } else {
            Some(Position {
                n: number(state, "published_n")?,
                as_of: time(state, "published_as_of")?,
                bound: time(state, "published_bound")?,
                timeline: timeline(&text(state, "published_timeline")?)?,
            })
        };
        let number_drawn = rows("sqlonfhir_meta.reading")
            .first()
            .context("the number is missing")?;
        Ok(Self {
            views,
            number: number(number_drawn, "n")?,
            newest: number(state, "newest")?,
            ledger,
            speed,
            published,
        })
    }
}

/// The played part of a timeline: its system identifier.
pub(crate) fn timeline(text: &str) -> anyhow::Result<i64> {
    text.split('/')
        .next()
        .unwrap_or_default()
        .parse()
        .with_context(|| format!("timeline {text}"))
}

fn number(row: &Value, column: &str) -> anyhow::Result<i64> {
    row[column].as_i64().with_context(|| format!("{column} of {row}"))
}

fn text(row: &Value, column: &str) -> anyhow::Result<String> {
    Ok(row[column]
        .as_str()
        .with_context(|| format!("{column} of {row}"))?
        .to_owned())
}

fn time(row: &Value, column: &str) -> anyhow::Result<i64> {
    Ok(chrono::DateTime::parse_from_rfc3339(&text(row, column)?)?.timestamp())
}
