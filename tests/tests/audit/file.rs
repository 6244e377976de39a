//! A file of the audit, as an auditor reads it.

use std::{
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use e2e::{deadline, process::binary};
use serde_json::Value;

/// Long enough for a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Writes a file of one key.
pub(crate) fn key_file(folder: &Path) -> anyhow::Result<PathBuf> {
    let file = folder.join("keys");
    std::fs::write(&file, format!("test-1 {}\n", "5a".repeat(32)))?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// The records of whole lines, in their order.
pub(crate) fn records(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Those of an operation's end that has this id of a request.
pub(crate) fn ended(file: &Path, request_id: &str) -> Vec<Value> {
    let of = |record: &Value| record["kind"] == "ended" && record["request_id"] == request_id;
    records(file).into_iter().filter(of).collect()
}

/// Waits for it.
pub(crate) async fn until_ended(file: &Path, request_id: &str) -> anyhow::Result<Value> {
    deadline::until(&format!("the record of {request_id}"), LIMIT, || async {
        ended(file, request_id).into_iter().next()
    })
    .await
}

/// `<daemon> audit …`, with this as its input.
pub(crate) fn command(words: &[&str], input: &str) -> anyhow::Result<Output> {
    let mut child = Command::new(binary("serving-gateway")?)
        .arg("audit")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("an input")?
        .write_all(input.as_bytes())?;
    Ok(child.wait_with_output()?)
}

/// Fails unless these files, one behind the other, hold.
pub(crate) fn verify(files: &[&Path]) -> anyhow::Result<String> {
    let mut words = vec!["verify", "--whole"];
    words.extend(files.iter().filter_map(|file| file.to_str()));
    let output = command(&words, "")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said)
}

/// The hash of a value.
pub(crate) fn hash(keys: &Path, value: &str) -> anyhow::Result<String> {
    let output = command(
        &["hash", "--keys", keys.to_str().context("text")?],
        &format!("{value}\n"),
    )?;
    let said = String::from_utf8(output.stdout)?;
    let (key, hash) = said.trim().split_once(' ').context("a key and a hash")?;
    anyhow::ensure!(key == "test-1", "{said}");
    Ok(hash.to_owned())
}
