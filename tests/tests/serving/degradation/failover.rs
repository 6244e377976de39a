//! The merger that is at work goes: another gateway's goes on, within some three seconds, whatever the first one was at.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use api::proto::serving::serving_service_client::ServingServiceClient;
use daemon::Shutdown;
use daemon::admin::Readiness;
use daemon::metrics::Metrics;
use e2e::deadline;
use e2e::postgres::until_true;
use e2e::process::{Daemon, Plan};
use e2e::server::Lifetime;
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

use super::{Lined, codes, expected, three_and};
use crate::fakes::PATIENCE;
use crate::fixture::{CONDITION, Fixture, Gateway, all, condition, mark, server, three};

/// The goal is 3 s; a busy machine may take longer.
const LIMIT: Duration = Duration::from_secs(30);

/// Two gateways as processes, over one database.
struct Two {
    fixture: Fixture,
    daemons: [Daemon; 2],
    clients: [Gateway; 2],
    _folders: [TempDir; 2],
}

impl Two {
    async fn start() -> anyhow::Result<Self> {
        let fixture = Fixture::with_settings(&three(), |config| config.use_speed_layer = false).await?;
        let (first, second) = tokio::try_join!(process(&fixture), process(&fixture))?;
        Ok(Self {
            fixture,
            daemons: [first.0, second.0],
            clients: [first.1, second.1],
            _folders: [first.2, second.2],
        })
    }

    /// Which of those that answer leads, when exactly one does.
    async fn leader(&self) -> Option<usize> {
        let mut leading = Vec::new();
        for (i, daemon) in self.daemons.iter().enumerate() {
            let metrics = tokio::time::timeout(Duration::from_secs(1), daemon.metrics()).await;
            let leads = metrics.is_ok_and(|metrics| {
                metrics.is_ok_and(|text| text.lines().any(|line| line.ends_with("merge_leading 1")))
            });
            if leads {
                leading.push(i);
            }
        }
        (leading.len() == 1).then(|| leading[0])
    }

    async fn until_one_leads(&self) -> anyhow::Result<usize> {
        deadline::until("one of them leads", LIMIT, || self.leader()).await
    }

    /// A round of the tail; until a gateway shows its state of `c-4`.
    async fn shows(&self, gateway: usize, n: i64) -> anyhow::Result<()> {
        let code = format!("40{n}");
        let state = condition("c-4", n, "p-3", &code, "live", "4");
        self.fixture.speed.round(CONDITION, vec![state], mark(n));
        self.until_shown(gateway, &code).await
    }

    async fn until_shown(&self, gateway: usize, code: &str) -> anyhow::Result<()> {
        let rows = expected(&three_and(&[("c-4", code)]));
        deadline::until("the change is shown", LIMIT, || async {
            let asked = self.clients[gateway].ask(all());
            let answer = tokio::time::timeout(Duration::from_secs(5), asked).await;
            (codes(&answer.ok()?.ok()?) == rows).then_some(())
        })
        .await
    }
}

async fn process(fixture: &Fixture) -> anyhow::Result<(Daemon, Gateway, TempDir)> {
    let folder = tempfile::tempdir()?;
    let config = format!(
        "[daemon]\ngrpc_listen = \"{{grpc}}\"\nadmin_listen = \"{{admin}}\"\n\n[http]\nlisten = \"{{http}}\"\n\n\
         [views]\nurl = \"{}\"\nmax_connections = 4\nmerge_connections = 2\n\n[services]\nspeed = \"{}\"\nbatch = \"{}\"\n",
        fixture.url, fixture.services.0, fixture.services.1
    );
    let daemon = Daemon::start(Plan {
        name: "serving-gateway",
        config,
        environment: Vec::new(),
        folder: folder.path().to_owned(),
        lifetime: Lifetime::Program,
    })
    .await?;
    let client = ServingServiceClient::connect(format!("http://{}", daemon.address("grpc")?)).await?;
    let gateway = Gateway {
        client,
        shutdown: Shutdown::new(),
        metrics: Metrics::new(),
        http: format!("http://{}", daemon.address("http")?),
        address: daemon.address("grpc")?.clone(),
        readiness: Readiness::default(),
    };
    Ok((daemon, gateway, folder))
}

fn told(what: &str, since: Instant) -> String {
    let seconds = since.elapsed().as_secs_f64();
    format!("another merger shows a change {seconds:.1} s after the leader {what}")
}

#[tokio::test]
async fn a_leader_that_is_killed_or_loses_its_connection_is_followed() -> anyhow::Result<()> {
    let mut two = Two::start().await?;
    let leader = two.until_one_leads().await?;
    two.shows(1 - leader, 5).await?;

    let mut owner = PgConnection::connect(&two.fixture.owner_url).await?;
    let ended: i64 = sqlx::query_scalar(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_locks JOIN pg_stat_activity USING (pid) \
         WHERE locktype = 'advisory' AND granted AND application_name = 'researchflow merger' AND datname = current_database()",
    )
    .fetch_one(&mut owner)
    .await?;
    anyhow::ensure!(ended == 1, "one session has the lead, not {ended}");
    let since = Instant::now();
    two.shows(1 - leader, 6).await?;
    println!("{}", told("has lost its connection", since));

    let leader = two.until_one_leads().await?;
    two.daemons[leader].kill9();
    let since = Instant::now();
    two.shows(1 - leader, 7).await?;
    println!("{}", told("was killed", since));
    Ok(())
}

#[tokio::test]
async fn a_leader_that_stands_still_is_followed_and_does_no_harm_when_it_goes_on() -> anyhow::Result<()> {
    let two = Two::start().await?;
    let leader = two.until_one_leads().await?;
    two.shows(1 - leader, 5).await?;

    two.daemons[leader].signal("STOP");
    let since = Instant::now();
    two.shows(1 - leader, 6).await?;
    println!("{}", told("was stopped", since));

    // It has been given what the other one has applied long ago.
    two.shows(1 - leader, 7).await?;
    two.daemons[leader].signal("CONT");
    two.until_shown(leader, "407").await?;
    two.until_one_leads().await?;
    two.shows(leader, 8).await?;
    two.until_shown(1 - leader, "408").await?;
    let last = two.fixture.owner.known_version(CONDITION, "c-4").await?.0;
    assert_eq!(last, 8);
    Ok(())
}

/// The first insertion of a live row takes a second: time to stand still in the middle of it.
const SLOW: &str = "CREATE SEQUENCE sqlonfhir_live.insertions; \
    CREATE FUNCTION sqlonfhir_live.slow() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
      IF nextval('sqlonfhir_live.insertions') = 1 THEN PERFORM pg_sleep(1); END IF; RETURN NEW; END $$; \
    CREATE TRIGGER slow BEFORE INSERT ON sqlonfhir_live.conditions FOR EACH ROW EXECUTE FUNCTION sqlonfhir_live.slow()";

#[tokio::test]
async fn a_leader_that_stands_still_within_a_transaction_does_not_keep_the_types_lock() -> anyhow::Result<()>
{
    let server = server().await?;
    // Longer than the test: it must not be the gateway itself that gives up.
    let lined = Lined::on(&server, |config| {
        config.degradation.silent_seconds = Duration::from_mins(5);
    })
    .await?;
    let mut owner = PgConnection::connect(&lined.fixture.owner_url).await?;
    sqlx::raw_sql(SLOW).execute(&mut owner).await?;
    let metrics = || async {
        let text = lined.gateway.metrics.encode().ok()?;
        text.lines()
            .any(|line| line.ends_with("merge_leading 1"))
            .then_some(())
    };
    deadline::until("it leads", PATIENCE, metrics).await?;
    let other = lined.fixture.another().await?;

    let live = condition("c-4", 4, "p-3", "400", "live", "4");
    lined.fixture.speed.round(CONDITION, vec![live], mark(5));
    let inserts = "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
    until_true(&lined.fixture.owner_url, inserts, PATIENCE).await?;
    lined.views.hang();
    let since = Instant::now();
    let four = expected(&three_and(&[("c-4", "400")]));
    deadline::until("the other one shows the change", LIMIT, || async {
        let answer = other.ask(all()).await.ok()?;
        (codes(&answer) == four).then_some(())
    })
    .await
    .context("the type's lock is kept")?;
    println!("{}", told("has begun to stand still within a transaction", since));

    lined.views.mend();
    let changed = condition("c-4", 5, "p-3", "405", "changed", "4");
    lined.fixture.speed.round(CONDITION, vec![changed], mark(6));
    lined
        .until(
            "the first one answers again",
            &three_and(&[("c-4", "405")]),
            |_| true,
        )
        .await?;
    Ok(())
}
