//! Faults that are planted in the views' database by SQL, as a layer that is wrong would leave them: a run must find them, or it could not find anything.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::check::Rule;
use super::scene::Scene;

/// Between two that are planted.
const EVERY: Duration = Duration::from_millis(700);

/// The view that rows are taken from: its resources have several.
const VIEW: &str = "consistency_names";

/// What is planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Plant {
    /// All rows of a resource go.
    LostRow,
    /// A resource's rows become those of an earlier version.
    OldRow,
    /// One row of a resource becomes that of an earlier version.
    MixedRows,
    /// Rows and times of a type become those of before.
    GoingBack,
    /// The mark moves to now, before what it promises is in.
    EarlyAsOf,
    /// Versions are taken for known that are not.
    KnownVersion,
}

impl Plant {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::LostRow,
        Self::OldRow,
        Self::MixedRows,
        Self::GoingBack,
        Self::EarlyAsOf,
        Self::KnownVersion,
    ];

    /// The rule that must be found broken.
    pub fn breaks(self) -> Rule {
        match self {
            Self::LostRow | Self::OldRow | Self::EarlyAsOf => Rule::Complete,
            Self::MixedRows => Rule::Whole,
            Self::GoingBack => Rule::Forward,
            Self::KnownVersion => Rule::AtLeast,
        }
    }

    /// Once, in one transaction. Rows of before lie in `planted.before`.
    fn statements(self) -> Vec<String> {
        let tables = ["sqlonfhir_base", "sqlonfhir_live"].map(|schema| format!("{schema}.{VIEW}"));
        let [base, live] = &tables;
        // Of the resources whose rows have moved on since they were noted.
        let chosen = format!(
            "SELECT b._rid FROM planted.before b JOIN (SELECT * FROM {base} UNION ALL SELECT * FROM {live}) n USING (_rid, _row) \
             WHERE n.seq > b.seq ORDER BY random() LIMIT 1"
        );
        let choose = format!("CREATE TEMP TABLE chosen ON COMMIT DROP AS {chosen}");
        let put_back =
            format!("INSERT INTO {live} SELECT b.* FROM planted.before b JOIN chosen USING (_rid)");
        let take = |table: &String| format!("DELETE FROM {table} WHERE _rid IN (SELECT _rid FROM chosen)");
        match self {
            Self::LostRow => vec![
                format!("CREATE TEMP TABLE chosen ON COMMIT DROP AS SELECT _rid FROM (SELECT _rid FROM {base} UNION SELECT _rid FROM {live}) n ORDER BY random() LIMIT 1"),
                take(base),
                take(live),
            ],
            Self::OldRow => vec![choose, take(base), take(live), put_back],
            Self::MixedRows => {
                let mix = |table: &String| {
                    format!(
                        "UPDATE {table} n SET seq = b.seq, part = b.part FROM planted.before b \
                         WHERE n._rid = b._rid AND n._row = b._row AND n.seq > b.seq \
                         AND EXISTS (SELECT FROM {table} m WHERE m._rid = n._rid AND m._row > n._row)"
                    )
                };
                vec![mix(base), mix(live)]
            }
            Self::GoingBack => vec![
                choose,
                take(base),
                take(live),
                put_back,
                "UPDATE sqlonfhir_meta.resource_type t SET speed_as_of = p.as_of, published_as_of = least(published_as_of, p.as_of) FROM planted.times p WHERE t.type = 'Patient'".to_owned(),
            ],
            Self::EarlyAsOf => {
                vec!["UPDATE sqlonfhir_meta.resource_type SET speed_as_of = clock_timestamp()".to_owned()]
            }
            Self::KnownVersion => {
                vec!["UPDATE sqlonfhir_meta.ledger SET version = version + 1000000 WHERE version < 1000000".to_owned()]
            }
        }
    }
}

/// Plants again and again, over a connection of a superuser.
pub async fn plant(scene: Arc<Scene>, views_db: String, plant: Plant) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(&views_db).await?;
    run(&mut connection, "CREATE SCHEMA IF NOT EXISTS planted".to_owned()).await?;
    while scene.is_writing() {
        note_present(&mut connection).await?;
        tokio::time::sleep(EVERY).await;
        // It may meet the merger in a deadlock: then the next one.
        if let Ok(rows) = once(&mut connection, plant).await {
            scene.tally().planted += rows;
        }
    }
    run(&mut connection, "DROP SCHEMA planted CASCADE".to_owned()).await?;
    Ok(())
}

/// The number of rows that are other than before.
async fn once(connection: &mut PgConnection, plant: Plant) -> anyhow::Result<u64> {
    let (mut transaction, mut rows) = (connection.begin().await?, 0);
    for statement in plant.statements() {
        rows += run(&mut transaction, statement).await?;
    }
    transaction.commit().await?;
    Ok(rows)
}

/// Rows and times as they are now, for later.
async fn note_present(connection: &mut PgConnection) -> anyhow::Result<()> {
    let rows = format!("SELECT * FROM sqlonfhir_base.{VIEW} UNION ALL SELECT * FROM sqlonfhir_live.{VIEW}");
    for statement in [
        "DROP TABLE IF EXISTS planted.before, planted.times".to_owned(),
        format!("CREATE TABLE planted.before AS {rows}"),
        "CREATE TABLE planted.times AS SELECT greatest(speed_as_of, published_as_of) AS as_of \
         FROM sqlonfhir_meta.resource_type WHERE type = 'Patient'"
            .to_owned(),
    ] {
        run(connection, statement).await?;
    }
    Ok(())
}

async fn run(connection: &mut PgConnection, statement: String) -> anyhow::Result<u64> {
    let done = sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}
