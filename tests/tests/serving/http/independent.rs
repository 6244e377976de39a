//! A client that shares nothing with us but the specification.

use std::path::Path;
use std::process::Stdio;

use anyhow::Context as _;

#[tokio::test]
async fn a_client_of_another_make_finds_every_format_and_every_error() -> anyhow::Result<()> {
    let fixture = super::fixture().await?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/serving/http/sql_run_client.py");
    let client = tokio::process::Command::new("python3")
        .arg(script)
        .arg(&fixture.gateway.http)
        .stdin(Stdio::null())
        .output()
        .await
        .context("python3 is needed")?;
    let said = String::from_utf8_lossy(&client.stdout);
    assert!(
        client.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&client.stderr)
    );
    // A script that checks nothing would pass too.
    let checks: u32 = said
        .lines()
        .last()
        .and_then(|line| line.split(' ').next()?.parse().ok())
        .context("a count")?;
    assert!(checks > 100, "{said}");
    Ok(())
}
