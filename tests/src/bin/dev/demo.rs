//! The demo: one resource's way from HAPI to an answer. Every claim is checked; one that does not hold ends the demo with exit code 1.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use api::proto::batch::RefreshKind;
use api::proto::serving::{
    ClearViewCacheRequest, DegradationReason, GetStatisticsRequest, Source, ViewSummary,
};
use api::proto::speed::{GetStatusRequest, speed_service_client::SpeedServiceClient};
use e2e::ask::{self, Answer, Asker, Reader, all_of, rows_where};
use e2e::bodies::compare_all;
use e2e::deadline;
use e2e::fhir::{Fhir, Written};
use e2e::loading::Loaded;
use e2e::operate::Operator;
use e2e::process::{Daemon, Plan};
use e2e::server::Lifetime;
use e2e::stack::{Endpoints, Options, Servers, Stack};
use e2e::{background, server};
use serde_json::{Value, json};
use view_store::{RunKind, StoreSettings, ViewStore};

use crate::story::{Story, ms};
use crate::up::{self, load};

/// The patient whose way is followed.
const ID: &str = "demo-grace";

/// Until a change must be visible. (Promised are 500 ms; a machine may be busy.)
const VISIBLE: Duration = Duration::from_secs(10);

/// Tells it.
pub(crate) async fn tell(story: &mut Story, data: Option<&Path>, keep: bool) -> anyhow::Result<()> {
    story.say("ResearchFlow: live, flat tables over a real HAPI FHIR server. Everything here is private to this demo and runs on free ports.");
    if !keep {
        return tell_all(story, data, Lifetime::Program).await;
    }
    up::refuse_second()?;
    let told = tell_all(story, data, Lifetime::Detached).await;
    if told.is_err() {
        background::stop().await?;
    }
    told
}

async fn tell_all(story: &mut Story, data: Option<&Path>, lifetime: Lifetime) -> anyhow::Result<()> {
    // No refresh comes by itself while the demo looks: it asks for its own.
    let options = Options {
        lifetime,
        refresh_interval_seconds: 3600,
        ..Options::default()
    };
    story.chapter("PostgreSQL, Redis and a real HAPI FHIR server (Java needs some 25 s)");
    let servers = Servers::start(&options).await?;
    story.tell(&format!(
        "HAPI answers at {}, with its own defaults: it sends webhooks every 5 s",
        servers.hapi.url()
    ));
    let loaded = load(story, &servers.hapi.fhir()?, data).await?;
    let total: u64 = loaded.iter().map(|(_, count)| count).sum();
    story.tell(&format!("{total} resources: {}", list(&loaded)));
    story.chapter("The three daemons: batch-refresher, speed-ingestor, serving-gateway");
    let mut stack = Stack::start_daemons(servers, &options).await?;
    let mut demo = Demo::new(&stack, loaded).await?;
    demo.batch(story, &stack).await?;
    demo.bodies(story).await?;
    demo.live(story).await?;
    demo.hand_over(story).await?;
    demo.not_materialised(story, &stack).await?;
    demo.without_speed_layer(story, &stack).await?;
    demo.statistics(story).await?;
    if lifetime == Lifetime::Detached {
        return up::write_endpoints(story, &stack);
    }
    story.chapter("SIGTERM: every daemon drains and ends by itself");
    stack.stop_daemons().await?;
    story.tell("all three ended with exit code 0");
    story.say("\nEverything that was claimed above was checked.");
    Ok(())
}

/// Refreshes until every view of the folder is materialised, and says how many rows each has.
pub(crate) async fn first_refresh(story: &Story, stack: &Stack) -> anyhow::Result<()> {
    let operator = Operator::connect(&stack.batch.address("grpc")?).await?;
    let begun = Instant::now();
    operator.refresh(&[], RefreshKind::Incremental).await?;
    let views = operator.all_active(Duration::from_mins(2)).await?;
    story.tell(&format!(
        "the batch has read HAPI's database and filled {} views in {}",
        views.len(),
        ms(begun.elapsed())
    ));
    Ok(())
}

fn list(loaded: &Loaded) -> String {
    loaded
        .iter()
        .map(|(name, count)| format!("{count} {name}"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn patient(gender: &str) -> Value {
    json!({
        "resourceType": "Patient", "id": ID, "active": true, "gender": gender, "birthDate": "1906-12-09",
        "name": [{"use": "official", "family": "Hopper", "given": ["Grace"]}],
    })
}

struct Demo {
    endpoints: Endpoints,
    loaded: Loaded,
    fhir: Fhir,
    asker: Asker,
    operator: Operator,
    reader: Reader,
}

impl Demo {
    async fn new(stack: &Stack, loaded: Loaded) -> anyhow::Result<Self> {
        let endpoints = stack.endpoints()?;
        Ok(Self {
            loaded,
            fhir: stack.servers.hapi.fhir()?,
            asker: Asker::connect(&endpoints.serving_grpc).await?,
            operator: Operator::connect(&endpoints.batch_grpc).await?,
            reader: Reader::connect(&endpoints.views_db).await?,
            endpoints,
        })
    }

    fn number_of(&self, resource_type: &str) -> i64 {
        let count = self
            .loaded
            .iter()
            .find(|(name, _)| name == resource_type)
            .map_or(0, |(_, count)| *count);
        i64::try_from(count).unwrap_or(i64::MAX)
    }

    async fn batch(&mut self, story: &mut Story, stack: &Stack) -> anyhow::Result<()> {
        story.chapter("Batch: what HAPI's database holds, as tables");
        first_refresh(story, stack).await?;
        let views = self.operator.views().await?;
        for view in &views {
            let by_grpc = self.asker.count(&view.name).await?;
            let by_sql = self
                .reader
                .value(&format!("SELECT count(*) FROM sqlonfhir.\"{}\"", view.name))
                .await?;
            ensure!(
                by_sql == Some(by_grpc.to_string()),
                "{}: gRPC counts {by_grpc} rows, SQL {by_sql:?}",
                view.name
            );
            ensure!(
                view.error_count == 0,
                "{} resources could not be evaluated for {}",
                view.error_count,
                view.name
            );
            story.tell(&format!(
                "{by_grpc:>7} rows in {} (over {} {} resources)",
                view.name,
                self.number_of(&view.resource_type),
                view.resource_type
            ));
            if matches!(view.name.as_str(), "patient_simple" | "condition_simple") {
                let resources = self.number_of(&view.resource_type);
                ensure!(
                    by_grpc == resources,
                    "{} has {by_grpc} rows, HAPI was given {resources}",
                    view.name
                );
            }
        }
        ensure!(
            views.iter().any(|view| view.name == "patient_simple"),
            "there is no view patient_simple"
        );
        let subscription = deadline::until(
            "HAPI to activate the Subscription",
            Duration::from_mins(1),
            || async {
                let subscription = self
                    .fhir
                    .get("Subscription", "researchflow-default")
                    .await
                    .ok()??;
                (subscription["status"] == "active").then_some(subscription)
            },
        )
        .await?;
        let speed = SpeedServiceClient::new(ask::channel(&self.endpoints.speed_grpc).await?);
        let status = speed.clone().get_status(GetStatusRequest {}).await?.into_inner();
        ensure!(
            status.tail_healthy,
            "the tail is not healthy: {}",
            status.tail_reason
        );
        let criteria = subscription["criteria"].as_str().unwrap_or_default();
        story.tell(&format!("HAPI has activated our Subscription for {criteria}"));
        Ok(())
    }

    /// Every resource that was loaded, read out of HAPI's tables and by HAPI's REST API.
    async fn bodies(&mut self, story: &mut Story) -> anyhow::Result<()> {
        story.chapter("Bodies: out of HAPI's tables, as HAPI's own REST API has them");
        let types = self.loaded.iter().map(|(name, _)| name);
        let all = compare_all(&self.fhir, &self.operator.client, types).await?;
        let loaded: u64 = self.loaded.iter().map(|(_, count)| count).sum();
        ensure!(
            all.resources as u64 >= loaded,
            "{} of {loaded} resources were compared",
            all.resources
        );
        story.tell(&format!(
            "{} resources in {} versions are the same, member by member, meta included",
            all.resources, all.versions
        ));
        Ok(())
    }

    /// A create, an update, a delete and a re-creation through HAPI's REST API.
    async fn live(&mut self, story: &mut Story) -> anyhow::Result<()> {
        story.chapter("Live: writes to HAPI, and how long after HAPI's answer everyone sees them");
        let before = self.asker.count("patient_simple").await?;
        let written = self.fhir.put(&patient("unknown")).await?;
        self.visible(story, "create", written, Some("unknown")).await?;
        ensure!(
            self.asker.count("patient_simple").await? == before + 1,
            "there must be one patient more"
        );
        let written = self.fhir.put(&patient("female")).await?;
        self.visible(story, "update", written, Some("female")).await?;
        let written = self.fhir.delete("Patient", ID).await?;
        self.visible(story, "delete", written, None).await?;
        ensure!(
            self.asker.count("patient_simple").await? == before,
            "there must be as many patients as before"
        );
        let written = self.fhir.put(&patient("female")).await?;
        self.visible(story, "re-create", written, Some("female")).await?;
        let answer = self.asker.ask(rows_where("patient_simple", "id", ID)).await?;
        ensure!(
            answer.footer.speed_rows == 1 && answer.footer.batch_rows == 0,
            "the row must be a live one"
        );
        story.tell("the batch has not run since: the row that everyone sees is a live one");
        Ok(())
    }

    /// Waits until both ways of asking show a write, and says how long it took.
    async fn visible(
        &mut self,
        story: &Story,
        what: &str,
        written: Written,
        gender: Option<&str>,
    ) -> anyhow::Result<()> {
        let query = rows_where("patient_simple", "id", ID);
        let select = format!("SELECT gender FROM sqlonfhir.patient_simple WHERE id = '{ID}'");
        let shown = |answer: &Answer| match gender {
            Some(gender) => answer.rows.len() == 1 && answer.text(0, "gender") == gender,
            None => answer.rows.is_empty(),
        };
        let by_grpc = self.asker.until(&query, VISIBLE, shown);
        let by_sql = self.reader.until(&select, VISIBLE, |value| value == gender);
        let ((_, by_grpc), by_sql) = tokio::try_join!(by_grpc, by_sql)
            .with_context(|| format!("the {what} did not become visible"))?;
        let after = |seen: Instant| ms(seen.saturating_duration_since(written.answered));
        let version = written
            .version
            .map_or_else(String::new, |version| format!(" of version {version}"));
        story.tell(&format!(
            "{:<22} HAPI took {:>7}, then visible by gRPC after {:>6}, in SQL after {:>6}",
            format!("{what}{version}:"),
            ms(written.took),
            after(by_grpc),
            after(by_sql),
        ));
        Ok(())
    }

    async fn hand_over(&mut self, story: &mut Story) -> anyhow::Result<()> {
        story.chapter(
            "Hand-over: an incremental refresh takes the live row into the batch; the answer stays the same",
        );
        let query = all_of("patient_simple");
        let before = self.asker.ask(query.clone()).await?;
        let begun = Instant::now();
        let done = self
            .operator
            .refresh(&["Patient"], RefreshKind::Incremental)
            .await?;
        let took = begun.elapsed();
        let after = self.asker.ask(query).await?;
        ensure!(
            before.sorted() == after.sorted(),
            "the rows differ after the hand-over"
        );
        ensure!(
            before.footer.speed_rows == 1,
            "before the hand-over one row must be live"
        );
        ensure!(
            after.footer.speed_rows == 0,
            "after the hand-over no row may be live"
        );
        let moved = |answer: &Answer| answer.freshness.batch_as_of.map(|at| (at.seconds, at.nanos));
        ensure!(moved(&after) > moved(&before), "batch_as_of must have moved");
        let read: i64 = done.iter().map(|one| one.resources_read).sum();
        story.tell(&format!(
            "before: {:>5} rows, {} of the batch, {} live",
            before.rows.len(),
            before.footer.batch_rows,
            before.footer.speed_rows
        ));
        story.tell(&format!(
            "after:  {:>5} rows, {} of the batch, {} live: the same rows, value by value",
            after.rows.len(),
            after.footer.batch_rows,
            after.footer.speed_rows
        ));
        story.tell(&format!(
            "the refresh read {read} of HAPI's patients and took {}",
            ms(took)
        ));
        Ok(())
    }

    async fn not_materialised(&mut self, story: &mut Story, stack: &Stack) -> anyhow::Result<()> {
        story.chapter("A view that has no tables yet is answered straight from HAPI's own");
        let definition = json!({
            "resourceType": "ViewDefinition", "name": "patient_names", "status": "active", "resource": "Patient",
            "select": [
                {"column": [{"name": "id", "path": "getResourceKey()", "type": "id"}]},
                {"forEach": "name", "column": [
                    {"name": "use", "path": "use", "type": "code"},
                    {"name": "family", "path": "family", "type": "string"},
                ]},
            ],
        });
        // Its tables are filled by the next run; as long as somebody else's run of the type goes on, that one waits.
        let url = stack.servers.url_as("refresher", "views");
        let skew = chrono::TimeDelta::seconds(1);
        let replica = ViewStore::connect(StoreSettings {
            url,
            max_connections: 4,
            skew,
        })
        .await?;
        let run = deadline::until("the type's run lock", Duration::from_secs(30), || async {
            replica
                .begin_run("Patient", RunKind::Incremental, false)
                .await
                .ok()
                .flatten()
        })
        .await?;
        let view = self.operator.put_view(&definition).await?;
        self.asker
            .client
            .clone()
            .clear_view_cache(ClearViewCacheRequest {})
            .await?;
        let raw = self.asker.ask(all_of("patient_names")).await?;
        ensure!(
            raw.freshness.source() == Source::Raw,
            "the answer must come from HAPI's tables"
        );
        ensure!(!raw.rows.is_empty(), "the view must have rows");
        story.tell(&format!(
            "{} (state {}): {} rows, straight from HAPI's tables",
            view.name,
            raw.freshness.view_state,
            raw.rows.len()
        ));
        run.end().await?;
        self.operator
            .refresh(&["Patient"], RefreshKind::Incremental)
            .await?;
        self.operator.all_active(Duration::from_mins(1)).await?;
        let limit = Duration::from_secs(10);
        let materialised = |answer: &Answer| answer.freshness.source() == Source::Materialized;
        let (tables, _) = self
            .asker
            .until(&all_of("patient_names"), limit, materialised)
            .await?;
        ensure!(
            tables.sorted() == raw.sorted(),
            "the rows differ between HAPI's tables and the view's"
        );
        story.tell(&format!(
            "after the refresh: {} rows from tables of its own, the same value by value",
            tables.rows.len()
        ));
        Ok(())
    }

    async fn without_speed_layer(&mut self, story: &mut Story, stack: &Stack) -> anyhow::Result<()> {
        story.chapter("USE_SPEED_LAYER=false: a second gateway that shows the batch only");
        let written = self.fhir.put(&patient("other")).await?;
        self.visible(story, "update", written, Some("other")).await?;
        let config = std::fs::read_to_string(stack.folder.join("serving-gateway.toml"))?;
        let mut lines: Vec<String> = config.lines().map(str::to_owned).collect();
        for line in &mut lines {
            if line.contains("listen = ") {
                *line = format!("{}= \"127.0.0.1:0\"", line.split('=').next().unwrap_or_default());
            }
        }
        let plan = Plan {
            name: "serving-gateway",
            config: lines.join("\n"),
            environment: vec![("USE_SPEED_LAYER".to_owned(), "false".to_owned())],
            folder: server::new_folder("second-gateway", None, Lifetime::Program)?,
            lifetime: Lifetime::Program,
        };
        let mut second = Daemon::start(plan).await?;
        let batch_only = Asker::connect(&second.address("grpc")?).await?;
        let old = batch_only.ask(rows_where("patient_simple", "id", ID)).await?;
        let off = old
            .freshness
            .degradations
            .iter()
            .any(|one| one.reason() == DegradationReason::SpeedLayerOff);
        ensure!(
            old.text(0, "gender") == "female" && off,
            "the second gateway must show the batch's row, and say so"
        );
        ensure!(
            !old.freshness.speed_layer_enabled,
            "the second gateway must say that the speed layer is off"
        );
        let new = self.asker.ask(rows_where("patient_simple", "id", ID)).await?;
        ensure!(
            new.text(0, "gender") == "other",
            "the first gateway must show the live row"
        );
        story.tell("the first gateway shows gender = other, which is live; the second shows female, which the batch has, and says why");
        let status = second.terminate(Duration::from_secs(5)).await?;
        ensure!(status.success(), "the second gateway ended with {status}");
        Ok(())
    }

    async fn statistics(&mut self, story: &mut Story) -> anyhow::Result<()> {
        story.chapter("What this gateway has served");
        let statistics = self
            .asker
            .client
            .clone()
            .get_statistics(GetStatisticsRequest {})
            .await?
            .into_inner();
        let total = statistics.total_queries;
        ensure!(
            total == statistics.materialized_queries + statistics.raw_queries,
            "the counts do not add up"
        );
        ensure!(
            statistics.raw_queries >= 1 && statistics.speed_layer_queries >= 1,
            "raw and live queries must be counted"
        );
        ensure!(
            statistics.speed_layer_enabled && statistics.changes_applied >= 5,
            "five live changes must be counted"
        );
        story.tell(&format!(
            "{total} queries: {} from tables ({:.1} %), {} from HAPI's raw tables ({:.1} %); {} with the speed layer ({:.1} %)",
            statistics.materialized_queries,
            statistics.materialized_percent,
            statistics.raw_queries,
            statistics.raw_percent,
            statistics.speed_layer_queries,
            statistics.speed_layer_percent,
        ));
        story.tell(&format!(
            "{} live changes applied; {} views known",
            statistics.changes_applied, statistics.views_cached
        ));
        let listed = self
            .asker
            .client
            .clone()
            .list_views(api::proto::serving::ListViewsRequest {})
            .await?;
        let names: Vec<String> = listed
            .into_inner()
            .views
            .into_iter()
            .map(|ViewSummary { name, .. }| name)
            .collect();
        ensure!(
            names.iter().any(|name| name == "patient_names"),
            "the new view must be listed"
        );
        Ok(())
    }
}
