//! Readers: each asks one question after the other, now this gateway, now that one, now PostgreSQL itself, and holds every answer to the book.

use std::sync::Arc;
use std::time::Duration;

use api::proto::serving::{CohortRequest, FreshnessDemand, Layers, QueryRequest, ResourceVersion};
use chrono::TimeDelta;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::calls::{Gateway, Head, NoAnswer, Person};
use super::check::{Answer, Rule, Scope, Violation};
use super::cohort::{Cohort, Criteria};
use super::history::{Key, Time};
use super::scene::Scene;
use super::subjects::{CODES, GENDERS, Row, View};
use crate::ask::equals;

/// How long a question may take in all; each call has a deadline of its own.
const PATIENCE: Duration = Duration::from_secs(15);

/// Between two questions of a reader, at most.
const PAUSE: Duration = Duration::from_millis(30);

/// Rows of a page.
const PAGE: i64 = 25;

/// After a failure, so that one that is dead is not asked all the time.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// Where readers ask.
#[derive(Debug, Clone)]
pub struct Sources {
    /// gRPC of the gateways, `host:port`.
    pub gateways: [String; 2],
    /// The views' database, as a reader.
    pub views_db: String,
}

/// A reader.
#[derive(Debug)]
pub struct Reader {
    scene: Arc<Scene>,
    gateways: [Gateway; 2],
    person: Person,
    dice: StdRng,
}

/// What a question wants, as it is judged.
struct Wanted {
    view: View,
    scope: Scope,
    at_least: Option<(Key, usize)>,
    max_staleness: Option<TimeDelta>,
    batch: bool,
}

impl Wanted {
    fn all(view: View) -> Self {
        Self {
            view,
            scope: Scope::All,
            at_least: None,
            max_staleness: None,
            batch: false,
        }
    }
}

/// The questions, by how often they are asked.
const QUESTIONS: [(&str, u32); 11] = [
    ("whole view", 22),
    ("one resource", 12),
    ("filter", 10),
    ("pages", 8),
    ("at_least", 16),
    ("max_staleness", 8),
    ("count", 6),
    ("batch only", 4),
    ("cohort", 5),
    ("Sql", 5),
    ("SQL as a reader", 9),
];

/// Names of the questions.
pub fn questions() -> impl Iterator<Item = &'static str> {
    QUESTIONS.iter().map(|(name, _)| *name)
}

impl Reader {
    /// One who asks these.
    pub fn new(scene: Arc<Scene>, sources: &Sources, seed: u64) -> anyhow::Result<Self> {
        let [first, second] = &sources.gateways;
        Ok(Self {
            scene,
            gateways: [
                Gateway::at("gateway 0", first)?,
                Gateway::at("gateway 1", second)?,
            ],
            person: Person::new(sources.views_db.clone()),
            dice: StdRng::seed_from_u64(seed),
        })
    }

    /// Asks until the end of reading.
    pub async fn run(mut self) -> anyhow::Result<()> {
        while self.scene.is_reading() {
            let question = self.draw();
            let asked = tokio::time::timeout(PATIENCE, self.ask(question)).await;
            match asked.unwrap_or(Err(NoAnswer::Silent)) {
                Ok(()) => tokio::time::sleep(PAUSE.mul_f64(self.dice.random())).await,
                Err(none) => {
                    self.note(question, &none)?;
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
        Ok(())
    }

    fn draw(&mut self) -> &'static str {
        let all = QUESTIONS.iter().map(|(_, weight)| weight).sum();
        let mut drawn: u32 = self.dice.random_range(0..all);
        for (name, weight) in QUESTIONS {
            if drawn < weight {
                return name;
            }
            drawn -= weight;
        }
        QUESTIONS[0].0
    }

    /// To be refused is right; to be refused for a fault of ours would make the checker blind.
    fn note(&self, question: &str, none: &NoAnswer) -> anyhow::Result<()> {
        match none {
            NoAnswer::Silent => self.scene.not_answered("silent"),
            NoAnswer::Unread => self.scene.not_answered("nothing read yet"),
            NoAnswer::Refused(status) => {
                let code = status.code();
                let ours = matches!(
                    code,
                    tonic::Code::InvalidArgument | tonic::Code::Unimplemented | tonic::Code::NotFound
                );
                anyhow::ensure!(!ours, "the question {question} is refused: {status}");
                self.scene.not_answered(&format!("{code:?}"));
            }
        }
        Ok(())
    }

    async fn ask(&mut self, question: &'static str) -> Result<(), NoAnswer> {
        let view = *View::ALL.choose(&mut self.dice).unwrap_or(&View::Names);
        match question {
            "pages" => self.ask_pages(view).await,
            "count" => self.ask_count(view).await,
            "cohort" => self.ask_cohort().await,
            "Sql" => self.ask_sql(view).await,
            "SQL as a reader" => self.ask_postgres(view).await,
            _ => self.ask_rows(question, view).await,
        }
    }

    async fn ask_rows(&mut self, question: &'static str, view: View) -> Result<(), NoAnswer> {
        let mut wanted = Wanted::all(view);
        let mut demand = FreshnessDemand::default();
        match question {
            "one resource" => wanted.scope = Scope::Resource(self.any_id(view)),
            "filter" => self.filter(&mut wanted),
            "at_least" => self.at_least(&mut wanted, &mut demand),
            "max_staleness" => {
                let max = self.dice.random_range(50..3_000);
                wanted.max_staleness = Some(TimeDelta::milliseconds(max));
                let span = Duration::from_millis(max.unsigned_abs());
                demand.max_staleness = prost_types::Duration::try_from(span).ok();
            }
            "batch only" => {
                wanted.batch = true;
                demand.layers = Layers::Batch.into();
            }
            _ => {}
        }
        let columns = wanted.view.columns();
        let filters = match &wanted.scope {
            Scope::Resource(id) => vec![equals("id", id)],
            Scope::Where(column, value) => vec![equals(columns[*column], value)],
            _ => Vec::new(),
        };
        let request = QueryRequest {
            filters,
            freshness: Some(demand),
            ..request(wanted.view)
        };
        let gateway = self.dice.random_range(0..2);
        let asked = self.scene.now();
        let got = self.gateways[gateway].query(request).await?;
        let by = self.gateways[gateway].name;
        self.judge(question, by, wanted, (asked, got.head), got.rows);
        Ok(())
    }

    fn any_id(&mut self, view: View) -> String {
        let book = self.scene.book();
        let written = book.history.of_type(view.resource_type());
        let ids: Vec<&str> = written.map(|(id, _)| id).collect();
        let id = ids.choose(&mut self.dice);
        id.map_or_else(|| "nobody".to_owned(), |id| (*id).to_owned())
    }

    /// By values that change with the sequence number, so that rows come and go.
    fn filter(&mut self, wanted: &mut Wanted) {
        let dice = &mut self.dice;
        let (view, column, values): (View, usize, &[&str]) = match dice.random_range(0..3) {
            0 => (View::Names, 2, &["true", "false"]),
            1 => (View::Active, 2, &GENDERS),
            _ => (View::Conditions, 3, &CODES),
        };
        let value = values.choose(dice).copied().unwrap_or_default();
        wanted.view = view;
        wanted.scope = Scope::Where(column, value.to_owned());
    }

    /// A write that HAPI has just answered, by a view over its type.
    fn at_least(&mut self, wanted: &mut Wanted, demand: &mut FreshnessDemand) {
        let recent = self.scene.recent(self.dice.random_range(0..4));
        let Some(recent) = recent.or_else(|| self.scene.recent(0)) else {
            return;
        };
        let of_type = View::ALL.into_iter();
        let views: Vec<View> = of_type
            .filter(|view| view.resource_type() == recent.key.resource_type)
            .collect();
        wanted.view = *views.choose(&mut self.dice).unwrap_or(&wanted.view);
        if self.dice.random_bool(0.5) {
            wanted.scope = Scope::Resource(recent.key.id.clone());
        }
        demand.at_least = vec![ResourceVersion {
            resource_type: recent.key.resource_type.to_owned(),
            id: recent.key.id.clone(),
            version: recent.version,
        }];
        wanted.at_least = Some((recent.key, recent.place));
    }

    fn judge(
        &self,
        question: &'static str,
        by: &'static str,
        wanted: Wanted,
        (asked, head): (Time, Head),
        rows: Vec<Row>,
    ) {
        let answer = Answer {
            by,
            view: wanted.view,
            batch: wanted.batch,
            asked,
            came: head.came,
            as_of: head.as_of,
            scope: wanted.scope,
            at_least: wanted.at_least,
            max_staleness: wanted.max_staleness,
            rows,
        };
        let violations = self.scene.book().check(&answer, &self.scene.population);
        if let Some(max) = answer.max_staleness {
            let beyond = (answer.asked - answer.as_of - max).num_milliseconds();
            let mut tally = self.scene.tally();
            tally.beyond_staleness_ms = tally.beyond_staleness_ms.max(beyond);
        }
        self.scene.judged(question, violations);
    }

    /// Each page is an answer of its own.
    async fn ask_pages(&mut self, view: View) -> Result<(), NoAnswer> {
        let (mut after, mut token) = (None, String::new());
        loop {
            let request = QueryRequest {
                page_size: PAGE,
                page_token: token,
                ..request(view)
            };
            let gateway = self.dice.random_range(0..2);
            let asked = self.scene.now();
            let got = self.gateways[gateway].query(request).await?;
            let last = got.rows.last().and_then(|row| row.first()).cloned();
            let until = last.filter(|_| !got.next_page.is_empty());
            let wanted = Wanted {
                scope: Scope::Page {
                    after,
                    until: until.clone(),
                },
                ..Wanted::all(view)
            };
            let by = self.gateways[gateway].name;
            self.judge("pages", by, wanted, (asked, got.head), got.rows);
            if until.is_none() {
                return Ok(());
            }
            (after, token) = (until, got.next_page);
        }
    }

    async fn ask_count(&mut self, view: View) -> Result<(), NoAnswer> {
        let gateway = self.dice.random_range(0..2);
        let request = QueryRequest {
            count_only: true,
            columns: Vec::new(),
            ..request(view)
        };
        let asked = self.scene.now();
        let got = self.gateways[gateway].query(request).await?;
        let Head { came, as_of } = got.head;
        let (least, most) = self
            .scene
            .book()
            .counts(view, (asked, as_of, came), &self.scene.population);
        let right = usize::try_from(got.count).is_ok_and(|count| (least..=most).contains(&count));
        let violation = (!right).then(|| Violation {
            rule: Rule::Complete,
            text: format!(
                "{}, {}: counts {} rows, {least} to {most} can be; as of {as_of}, asked {asked}, came {came}",
                self.gateways[gateway].name,
                view.name(),
                got.count,
            ),
        });
        self.scene.judged("count", violation.into_iter().collect());
        Ok(())
    }

    async fn ask_cohort(&mut self) -> Result<(), NoAnswer> {
        let criteria = self.criteria();
        let count_only = self.dice.random_bool(0.2);
        let gateway = self.dice.random_range(0..2);
        let request = CohortRequest {
            criteria: Some(criteria.message()),
            count_only,
            ..CohortRequest::default()
        };
        let asked = self.scene.now();
        let got = self.gateways[gateway].cohort(request).await?;
        let cohort = Cohort {
            by: self.gateways[gateway].name,
            criteria,
            asked,
            came: got.head.came,
            as_of: got.head.as_of,
            count: got.count,
            patients: (!count_only).then_some(got.ids),
        };
        let violations = cohort.check(&mut self.scene.book(), &self.scene.population);
        self.scene.judged("cohort", violations);
        Ok(())
    }

    fn criteria(&mut self) -> Criteria {
        let code = CODES[self.dice.random_range(0..CODES.len())].to_owned();
        let with_code = Criteria::In(View::Conditions, Some((3, code)));
        let in_use = Criteria::In(View::Names, Some((2, "true".to_owned())));
        let resolved = Criteria::In(View::Resolved, None);
        match self.dice.random_range(0..4) {
            0 => Criteria::All(vec![in_use, with_code]),
            1 => Criteria::Any(vec![resolved, Criteria::In(View::Active, None)]),
            2 => Criteria::All(vec![
                Criteria::In(View::Names, None),
                Criteria::Not(Box::new(resolved)),
            ]),
            _ => with_code,
        }
    }

    async fn ask_sql(&mut self, view: View) -> Result<(), NoAnswer> {
        let gateway = self.dice.random_range(0..2);
        let columns = view.columns().join(", ");
        let statement = format!("SELECT {columns} FROM sqlonfhir.{}", view.name());
        let asked = self.scene.now();
        let got = self.gateways[gateway].sql(statement).await?;
        let by = self.gateways[gateway].name;
        self.judge("Sql", by, Wanted::all(view), (asked, got.head), got.rows);
        Ok(())
    }

    /// As people with psql do. PostgreSQL lives all the time, so there is no excuse for an error.
    async fn ask_postgres(&mut self, view: View) -> Result<(), NoAnswer> {
        const QUESTION: &str = "SQL as a reader";
        let asked = self.scene.now();
        match self.person.read(view).await {
            Ok(Some(got)) => self.judge(QUESTION, "psql", Wanted::all(view), (asked, got.head), got.rows),
            Ok(None) => return Err(NoAnswer::Unread),
            Err(error) => {
                let violation = Violation {
                    rule: Rule::Served,
                    text: format!("a reader of {} got an error: {error:#}", view.name()),
                };
                self.scene.judged(QUESTION, vec![violation]);
            }
        }
        Ok(())
    }
}

fn request(view: View) -> QueryRequest {
    QueryRequest {
        view: view.name().to_owned(),
        columns: view.columns().iter().map(ToString::to_string).collect(),
        ..QueryRequest::default()
    }
}
