//! What a question leaves behind in PostgreSQL.

use std::collections::BTreeSet;

use api::proto::serving::QueryRequest;
use sqlx::{Connection as _, PgConnection};

use crate::fixture::{Fixture, all, three};

/// The sessions of the gateway's pools.
async fn sessions(url: &str) -> anyhow::Result<BTreeSet<i32>> {
    let mut connection = PgConnection::connect(url).await?;
    let sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'researchflow'";
    let pids: Vec<i32> = sqlx::query_scalar(sql).fetch_all(&mut connection).await?;
    Ok(pids.into_iter().collect())
}

#[tokio::test]
async fn a_page_leaves_its_connection_for_the_next_one() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let page = QueryRequest {
        page_size: 1,
        ..all()
    };
    // A whole answer leaves its connection.
    fixture.ask(all()).await?;
    let before = sessions(&fixture.owner_url).await?;
    let first = fixture.ask(page.clone()).await?;
    let mut token = first.footer().next_page_token;
    assert!(!token.is_empty());
    while !token.is_empty() {
        let next = QueryRequest {
            page_token: token,
            ..page.clone()
        };
        token = fixture.ask(next).await?.footer().next_page_token;
    }
    let ended: Vec<_> = before
        .difference(&sessions(&fixture.owner_url).await?)
        .copied()
        .collect();
    assert!(ended.is_empty(), "of {before:?} have ended {ended:?}");
    Ok(())
}
