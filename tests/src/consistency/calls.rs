//! How answers are got: over gRPC from a gateway, and in SQL from PostgreSQL. Nothing is judged here.

use std::time::Duration;

use anyhow::Context as _;
use api::RowBatch;
use api::proto::serving::{
    CohortRequest, Freshness, QueryFooter, QueryRequest, SqlRequest, cohort_response::Part as CohortPart,
    query_response::Part, serving_service_client::ServingServiceClient, sql_response::Part as SqlPart,
};
use chrono::DateTime;
use daemon::{Clock as _, SystemClock};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use tonic::transport::{Channel, Endpoint};

use super::history::Time;
use super::subjects::{Row, View};
use crate::ask::{rows_of, text};

/// Until a caller gives up; the gateway is told.
const DEADLINE: Duration = Duration::from_secs(4);

/// A gateway that stands still says nothing at all: then the caller goes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is nothing to be judged.
#[derive(Debug)]
pub enum NoAnswer {
    /// The call failed.
    Refused(tonic::Status),
    /// Nothing was heard.
    Silent,
    /// The answer says that nothing was read yet.
    Unread,
}

impl From<tonic::Status> for NoAnswer {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(status)
    }
}

/// The head of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// When it was there.
    pub came: Time,
    /// What it claims.
    pub as_of: Time,
}

impl Head {
    fn of(freshness: Option<&Freshness>, came: Time) -> Result<Self, NoAnswer> {
        let as_of = freshness.and_then(|freshness| freshness.as_of.as_ref());
        let time =
            |at: &prost_types::Timestamp| DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?);
        let as_of = as_of.and_then(time).ok_or(NoAnswer::Unread)?;
        Ok(Self { came, as_of })
    }
}

/// An answer with rows.
#[derive(Debug)]
pub struct Rows {
    /// Its head.
    pub head: Head,
    /// Its rows.
    pub rows: Vec<Row>,
    /// The count of its footer.
    pub count: i64,
    /// The token of the next page; empty where there is none.
    pub next_page: String,
}

/// An answer with patients.
#[derive(Debug)]
pub struct Patients {
    /// Its head.
    pub head: Head,
    /// The count of its head.
    pub count: i64,
    /// The ids.
    pub ids: Vec<String>,
}

/// A client of a gateway; connected when it is needed.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// For people.
    pub name: &'static str,
    client: ServingServiceClient<Channel>,
}

impl Gateway {
    /// Of the one at `host:port`.
    pub fn at(name: &'static str, address: &str) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .tcp_nodelay(true)
            .connect_timeout(PATIENCE);
        let client = ServingServiceClient::new(endpoint.connect_lazy())
            .max_decoding_message_size(api::MAX_MESSAGE_BYTES);
        Ok(Self { name, client })
    }

    /// `Query`.
    pub async fn query(&mut self, request: QueryRequest) -> Result<Rows, NoAnswer> {
        let mut stream = heard(self.client.query(within(request))).await??.into_inner();
        let mut parts = Parts::default();
        while let Some(message) = heard(stream.message()).await?? {
            match message.part {
                Some(Part::Header(part)) => parts.header(part.freshness),
                Some(Part::Rows(batch)) => parts.rows(&batch)?,
                Some(Part::Footer(part)) => parts.footer = Some(part),
                None => {}
            }
        }
        parts.whole()
    }

    /// `Sql`.
    pub async fn sql(&mut self, statement: String) -> Result<Rows, NoAnswer> {
        let request = SqlRequest {
            statement,
            ..SqlRequest::default()
        };
        let mut stream = heard(self.client.sql(within(request))).await??.into_inner();
        let mut parts = Parts::default();
        while let Some(message) = heard(stream.message()).await?? {
            match message.part {
                Some(SqlPart::Header(part)) => parts.header(part.freshness),
                Some(SqlPart::Rows(batch)) => parts.rows(&batch)?,
                Some(SqlPart::Footer(part)) => parts.footer = Some(part),
                _ => {}
            }
        }
        parts.whole()
    }

    /// `Cohort`.
    pub async fn cohort(&mut self, request: CohortRequest) -> Result<Patients, NoAnswer> {
        let mut stream = heard(self.client.cohort(within(request))).await??.into_inner();
        let (mut head, mut ids, mut whole) = (None, Vec::new(), false);
        while let Some(message) = heard(stream.message()).await?? {
            match message.part {
                Some(CohortPart::Header(part)) => head = Some((part, SystemClock.now())),
                Some(CohortPart::Patients(page)) => ids.extend(page.patient_ids),
                Some(CohortPart::Footer(_)) => whole = true,
                _ => {}
            }
        }
        let Some((header, came)) = head.filter(|_| whole) else {
            return Err(NoAnswer::Silent);
        };
        Ok(Patients {
            head: Head::of(header.freshness.as_ref(), came)?,
            count: header.patient_count,
            ids,
        })
    }
}

/// The parts of an answer with rows, as they come.
#[derive(Default)]
struct Parts {
    head: Option<(Option<Freshness>, Time)>,
    rows: Vec<Row>,
    footer: Option<QueryFooter>,
}

impl Parts {
    fn header(&mut self, freshness: Option<Freshness>) {
        self.head = Some((freshness, SystemClock.now()));
    }

    fn rows(&mut self, batch: &RowBatch) -> Result<(), NoAnswer> {
        let rows = rows_of(batch)?;
        self.rows.extend(
            rows.iter()
                .map(|row| row.values.iter().map(text).collect::<Row>()),
        );
        Ok(())
    }

    fn whole(self) -> Result<Rows, NoAnswer> {
        let (Some((freshness, came)), Some(footer)) = (self.head, self.footer) else {
            return Err(NoAnswer::Silent);
        };
        Ok(Rows {
            head: Head::of(freshness.as_ref(), came)?,
            rows: self.rows,
            count: footer.row_count,
            next_page: footer.next_page_token,
        })
    }
}

/// A person with psql.
#[derive(Debug)]
pub struct Person {
    url: String,
    connection: Option<PgConnection>,
}

impl Person {
    /// Connects when it is needed.
    pub fn new(url: String) -> Self {
        Self {
            url,
            connection: None,
        }
    }

    /// All rows of a view and what is known of their age, in one snapshot.
    pub async fn read(&mut self, view: View) -> anyhow::Result<Option<Rows>> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => PgConnection::connect(&self.url).await?,
        };
        let read = read(&mut connection, view).await?;
        // After an error the next one begins anew.
        self.connection = Some(connection);
        Ok(read)
    }
}

async fn read(connection: &mut PgConnection, view: View) -> anyhow::Result<Option<Rows>> {
    let mut snapshot = connection
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let as_of: Option<Time> = sqlx::query_scalar("SELECT as_of FROM sqlonfhir.freshness WHERE view = $1")
        .bind(view.name())
        .fetch_one(&mut *snapshot)
        .await
        .context("freshness")?;
    // As the gateway's texts are.
    let columns = view.columns().iter().map(|column| match *column {
        "issued" => r#"to_char(issued AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"#.to_owned(),
        other => format!("{other}::text"),
    });
    let columns: Vec<String> = columns.collect();
    let sql = format!("SELECT {} FROM sqlonfhir.{}", columns.join(", "), view.name());
    let found = sqlx::query(AssertSqlSafe(sql))
        .fetch_all(&mut *snapshot)
        .await
        .context("rows")?;
    snapshot.commit().await?;
    let mut rows = Vec::with_capacity(found.len());
    for row in &found {
        let cells = (0..row.len()).map(|index| row.try_get::<Option<String>, _>(index));
        let cells: Result<Row, sqlx::Error> = cells.map(|cell| Ok(cell?.unwrap_or_default())).collect();
        rows.push(cells?);
    }
    let came = SystemClock.now();
    let count = i64::try_from(rows.len())?;
    Ok(as_of.map(|as_of| Rows {
        head: Head { came, as_of },
        rows,
        count,
        next_page: String::new(),
    }))
}

fn within<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

/// What comes, unless nothing is heard for too long.
async fn heard<T>(coming: impl Future<Output = T>) -> Result<T, NoAnswer> {
    tokio::time::timeout(PATIENCE, coming)
        .await
        .map_err(|_| NoAnswer::Silent)
}
