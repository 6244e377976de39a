//! The stack that all tests share.

use std::time::Duration;

use anyhow::Context;
use api::proto::batch::RefreshKind;
use e2e::ask::{Answer, Asker, Reader, all_of};
use e2e::deadline;
use e2e::fhir::Fhir;
use e2e::operate::Operator;
use e2e::stack::{Options, Stack};
use sqlx::{Connection, PgConnection};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

static STACK: Mutex<Option<Stack>> = Mutex::const_new(None);

/// The stack, started if it was not; nobody else has it meanwhile.
pub(crate) async fn shared() -> anyhow::Result<MappedMutexGuard<'static, Stack>> {
    let mut stack = STACK.lock().await;
    if stack.is_none() {
        let started = Stack::start(&Options::default()).await?;
        let operator = Operator::connect(&started.batch.address("grpc")?).await?;
        operator.all_active(Duration::from_mins(1)).await?;
        bound_redis(&started.servers.redis.url()).await?;
        *stack = Some(started);
    }
    let mut stack = MutexGuard::map(stack, |stack| stack.as_mut().expect("started above"));
    // A test that failed half-way must not make the next ones fail.
    let Stack {
        batch,
        speed,
        serving,
        ..
    } = &mut *stack;
    for daemon in [batch, speed, serving] {
        if daemon.expect_running().is_err() {
            daemon.restart().await?;
        }
    }
    Ok(stack)
}

/// What operators give to Redis is small beside a bulk load.
async fn bound_redis(url: &str) -> anyhow::Result<()> {
    let mut connection = redis::Client::open(url)?
        .get_multiplexed_async_connection()
        .await?;
    redis::cmd("CONFIG")
        .arg("SET")
        .arg("maxmemory")
        .arg("64mb")
        .query_async::<()>(&mut connection)
        .await?;
    Ok(())
}

/// Clients of a stack.
pub(crate) struct Clients {
    pub(crate) fhir: Fhir,
    pub(crate) asker: Asker,
    pub(crate) operator: Operator,
    pub(crate) reader: Reader,
    hapi_db: String,
}

impl Clients {
    pub(crate) async fn of(stack: &Stack) -> anyhow::Result<Self> {
        let endpoints = stack.endpoints()?;
        Ok(Self {
            fhir: stack.servers.hapi.fhir()?,
            asker: Asker::connect(&endpoints.serving_grpc).await?,
            operator: Operator::connect(&endpoints.batch_grpc).await?,
            reader: Reader::connect(&endpoints.views_db).await?,
            hapi_db: endpoints.hapi_db,
        })
    }

    /// Names of all views.
    pub(crate) async fn views(&self) -> anyhow::Result<Vec<String>> {
        Ok(self
            .operator
            .views()
            .await?
            .into_iter()
            .map(|view| view.name)
            .collect())
    }

    /// Waits until the answers of all views promise everything that HAPI has committed before this call.
    pub(crate) async fn catch_up(&self) -> anyhow::Result<()> {
        let mut hapi = PgConnection::connect(&self.hapi_db).await?;
        let now: f64 = sqlx::query_scalar("SELECT extract(epoch FROM clock_timestamp())::float8")
            .fetch_one(&mut hapi)
            .await?;
        for view in self.views().await? {
            deadline::until(
                &format!("{view} to catch up with HAPI"),
                Duration::from_secs(30),
                || async {
                    let answer = self.asker.ask(e2e::ask::count_of(&view)).await.ok()?;
                    let as_of = answer.freshness.as_of?;
                    #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
                    let as_of = as_of.seconds as f64 + f64::from(as_of.nanos) / 1e9;
                    (as_of >= now).then_some(())
                },
            )
            .await?;
        }
        Ok(())
    }

    /// Waits until a preview of now is shown: one that may be older than what the batch has just read, as far as two clocks can tell, is not (its reading is).
    pub(crate) async fn settled(&mut self) -> anyhow::Result<()> {
        let settled = "SELECT clock_timestamp() > max(batch_as_of) + interval '2 s' FROM sqlonfhir.freshness";
        let limit = Duration::from_secs(10);
        self.reader
            .until(settled, limit, |value| value == Some("true"))
            .await?;
        Ok(())
    }

    /// The whole answer of each view.
    pub(crate) async fn answers(&self) -> anyhow::Result<Vec<(String, Answer)>> {
        let mut answers = Vec::new();
        for view in self.views().await? {
            let answer = self
                .asker
                .ask(all_of(&view))
                .await
                .with_context(|| format!("{view} does not answer"))?;
            answers.push((view, answer));
        }
        Ok(answers)
    }

    /// Fails unless what everyone sees now is what reading all of HAPI again from scratch gives, and what HAPI itself counts. Answers the rows
    /// that were live before, of all views.
    pub(crate) async fn nothing_missing_nothing_doubled(&self) -> anyhow::Result<i64> {
        self.catch_up().await?;
        let merged = self.answers().await?;
        self.operator.refresh(&[], RefreshKind::Full).await?;
        let read_again = self.answers().await?;
        for ((view, merged), (_, read_again)) in merged.iter().zip(&read_again) {
            assert_eq!(
                merged.sorted(),
                read_again.sorted(),
                "{view}: the live answer differs from all of HAPI read again"
            );
        }
        for (view, resource_type) in [("patient_simple", "Patient"), ("condition_simple", "Condition")] {
            let rows = self.asker.count(view).await?;
            assert_eq!(
                rows,
                self.fhir.count(resource_type).await?,
                "{view}: HAPI counts otherwise"
            );
        }
        self.all_handed_over().await?;
        Ok(merged.iter().map(|(_, answer)| answer.footer.speed_rows).sum())
    }

    /// Waits until refreshes have taken over all live rows. One may not do: while a transaction of HAPI's is open, all that was committed
    /// since it began is read again, and may be live with a newer number than the refresh has.
    async fn all_handed_over(&self) -> anyhow::Result<()> {
        let look = || async {
            self.operator.refresh(&[], RefreshKind::Incremental).await.ok()?;
            let answers = self.answers().await.ok()?;
            answers
                .iter()
                .all(|(_, answer)| answer.footer.speed_rows == 0)
                .then_some(())
        };
        deadline::until("all live rows to be handed over", Duration::from_mins(1), look).await
    }
}
