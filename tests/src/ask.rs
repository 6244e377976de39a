//! Asking as users do: over gRPC, and in SQL as a reader.

use std::time::{Duration, Instant};

use anyhow::Context;
use api::RowBatch;
use api::proto::serving::{
    Comparison, Filter, Freshness, Operator, QueryFooter, QueryRequest, Row, Value, filter,
    query_response::Part, serving_service_client::ServingServiceClient, value::Kind,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tonic::transport::Channel;

/// The whole answer to a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Rows, in the order of the stream.
    pub rows: Vec<Vec<Value>>,
    /// What the answer is made of.
    pub freshness: Freshness,
    /// The counts at the end.
    pub footer: QueryFooter,
}

impl Answer {
    /// A value as text; empty for null.
    pub fn text(&self, row: usize, column: &str) -> String {
        let place = self.columns.iter().position(|name| name == column);
        let value = place.and_then(|place| self.rows.get(row)?.get(place));
        value.map(text).unwrap_or_default()
    }

    /// The rows as text, sorted: equal for equal answers whatever their order.
    pub fn sorted(&self) -> Vec<String> {
        let mut rows: Vec<String> = self
            .rows
            .iter()
            .map(|row| row.iter().map(text).collect::<Vec<_>>().join("\u{1f}"))
            .collect();
        rows.sort();
        rows
    }
}

/// A value as text; empty for null.
pub fn text(value: &Value) -> String {
    match &value.kind {
        None => String::new(),
        Some(Kind::Boolean(value)) => value.to_string(),
        Some(Kind::Integer(value)) => value.to_string(),
        Some(Kind::Decimal(value) | Kind::Text(value) | Kind::Json(value)) => value.clone(),
        Some(Kind::Timestamp(value)) => value.to_string(),
        Some(Kind::List(list)) => {
            format!(
                "{{{}}}",
                list.values.iter().map(text).collect::<Vec<_>>().join(",")
            )
        }
    }
}

/// The condition that a column has a value.
pub fn equals(column: &str, value: &str) -> Filter {
    Filter {
        filter: Some(filter::Filter::Comparison(Comparison {
            column: column.to_owned(),
            operator: Operator::Equal.into(),
            values: vec![value.to_owned()],
        })),
    }
}

/// A query for all columns and rows of a view.
pub fn all_of(view: &str) -> QueryRequest {
    QueryRequest {
        view: view.to_owned(),
        ..QueryRequest::default()
    }
}

/// A query for the rows of a view in which a column has a value.
pub fn rows_where(view: &str, column: &str, value: &str) -> QueryRequest {
    QueryRequest {
        filters: vec![equals(column, value)],
        ..all_of(view)
    }
}

/// A query that counts a view's rows.
pub fn count_of(view: &str) -> QueryRequest {
    QueryRequest {
        count_only: true,
        ..all_of(view)
    }
}

/// A channel to a service at `host:port`.
pub async fn channel(address: &str) -> anyhow::Result<Channel> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
    endpoint
        .connect()
        .await
        .with_context(|| format!("cannot connect to {address}"))
}

/// A client of ServingService.
#[derive(Debug, Clone)]
pub struct Asker {
    /// The generated client, for everything else.
    pub client: ServingServiceClient<Channel>,
}

impl Asker {
    /// A client of the service at `host:port`.
    pub async fn connect(address: &str) -> anyhow::Result<Self> {
        let client = ServingServiceClient::new(channel(address).await?)
            .max_decoding_message_size(api::MAX_MESSAGE_BYTES);
        Ok(Self { client })
    }

    /// The answer to a query.
    pub async fn ask(&self, query: QueryRequest) -> Result<Answer, tonic::Status> {
        let mut stream = self.client.clone().query(query).await?.into_inner();
        let (mut header, mut rows, mut footer) = (None, Vec::new(), None);
        while let Some(response) = stream.message().await? {
            match response.part {
                Some(Part::Header(part)) => header = Some(part),
                Some(Part::Rows(part)) => rows.extend(rows_of(&part)?.into_iter().map(|row| row.values)),
                Some(Part::Footer(part)) => footer = Some(part),
                None => return Err(tonic::Status::internal("a part of the answer is empty")),
            }
        }
        let (Some(header), Some(footer)) = (header, footer) else {
            return Err(tonic::Status::internal("the answer has no header or no footer"));
        };
        let freshness = header.freshness.unwrap_or_default();
        let columns = header.columns.into_iter().map(|column| column.name).collect();
        Ok(Answer {
            columns,
            rows,
            freshness,
            footer,
        })
    }

    /// Number of rows of a view.
    pub async fn count(&self, view: &str) -> Result<i64, tonic::Status> {
        Ok(self.ask(count_of(view)).await?.footer.row_count)
    }

    /// Asks again and again until the answer is as wanted; the time of the first such answer.
    pub async fn until(
        &self,
        query: &QueryRequest,
        limit: Duration,
        wanted: impl Fn(&Answer) -> bool,
    ) -> anyhow::Result<(Answer, Instant)> {
        let start = Instant::now();
        loop {
            let answer = self.ask(query.clone()).await?;
            let answered = Instant::now();
            if wanted(&answer) {
                return Ok((answer, answered));
            }
            anyhow::ensure!(
                start.elapsed() < limit,
                "waited {limit:?} in vain for an answer of {}; the last has {} rows",
                query.view,
                answer.footer.row_count
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A person with psql: a plain connection as a reader.
#[derive(Debug)]
pub struct Reader {
    connection: PgConnection,
}

impl Reader {
    /// Connects.
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        Ok(Self {
            connection: PgConnection::connect(url).await?,
        })
    }

    /// The single value of a SELECT, as text; none where there is no row or null.
    pub async fn value(&mut self, select: &str) -> anyhow::Result<Option<String>> {
        let wrapped = format!("SELECT ({select})::text");
        let row: Option<Option<String>> = sqlx::query_scalar(AssertSqlSafe(wrapped))
            .fetch_optional(&mut self.connection)
            .await?;
        Ok(row.flatten())
    }

    /// Asks again and again until the single value of a SELECT is as wanted; the time of the first such answer.
    pub async fn until(
        &mut self,
        select: &str,
        limit: Duration,
        wanted: impl Fn(Option<&str>) -> bool,
    ) -> anyhow::Result<Instant> {
        let start = Instant::now();
        loop {
            let value = self.value(select).await?;
            let answered = Instant::now();
            if wanted(value.as_deref()) {
                return Ok(answered);
            }
            anyhow::ensure!(
                start.elapsed() < limit,
                "waited {limit:?} in vain for rows in SQL"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The plain connection.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// The rows of a message.
pub fn rows_of(batch: &RowBatch) -> Result<Vec<Row>, tonic::Status> {
    batch
        .rows()
        .map_err(|_| tonic::Status::internal("rows in an unknown form"))
}
