//! Compares this crate's FHIRPath with fhirpath.js, over every expression of `oracle/expressions.txt` and every resource beside it.
//!
//! ```text
//! expressions × resources ──ours──────► answers ─┐
//!          └──────► peer.mjs (fhirpath.js) ──────┴─compare, but for what known.txt explains──► N agreed, M differ
//! ```
//!
//! `oracle <folder>` prints our answers, one JSON line each; `oracle <folder> <answers of the peer>` compares. Exit code 1 if a difference is
//! not explained, or if an explained one is none any more.
#![expect(clippy::print_stdout, reason = "the report is this program's output")]

mod answer;
mod compare;
mod known;
mod ours;

use std::{
    collections::HashMap,
    env, error, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use answer::{Answer, Question};
use known::Known;
use serde_json::json;

type Failure = Box<dyn error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let done = match arguments.as_slice() {
        [folder] => print(folder).map(|()| true),
        [folder, peer] => report(folder, peer),
        _ => Err("usage: oracle <folder> [<answers of the peer>]".into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error}");
            ExitCode::from(2)
        }
    }
}

fn print(folder: &Path) -> Result<(), Failure> {
    for (question, answer) in ours(folder)? {
        let mut line = json!({"resource": question.resource, "expression": question.expression});
        match answer {
            Answer::Items(items) => line["items"] = items.into(),
            Answer::Error(error) => line["error"] = error.into(),
        }
        println!("{line}");
    }
    Ok(())
}

/// Prints what differs, and the counts; whether all of it is explained.
fn report(folder: &Path, peer: &Path) -> Result<bool, Failure> {
    let peer = answer::read(&fs::read_to_string(peer)?)?;
    let mut known = Known::read(&fs::read_to_string(folder.join("known.txt"))?)?;
    let (mut agreed, mut explained, mut unexplained) = (0, 0, 0);
    for (question, ours) in ours(folder)? {
        let theirs = peer
            .get(&question)
            .ok_or_else(|| format!("the peer did not answer {question}"))?;
        if compare::same(&question.expression, &ours, theirs) {
            agreed += 1;
        } else if known.explains(&question, &ours) {
            explained += 1;
        } else {
            unexplained += 1;
            println!("DIFFERS {question}\n    ours   {ours}\n    theirs {theirs}");
        }
    }
    let stale = known.stale();
    for entry in &stale {
        println!("STALE   {entry}: the answers no longer differ like this; take the line out of known.txt");
    }
    println!(
        "{agreed} agreed, {} differ ({explained} explained, {unexplained} unexplained, {} stale explanations)",
        explained + unexplained,
        stale.len()
    );
    Ok(unexplained == 0 && stale.is_empty() && agreed > 0)
}

/// Our answers: of each resource, in the order of the expressions.
fn ours(folder: &Path) -> Result<Vec<(Question, Answer)>, Failure> {
    let text = fs::read_to_string(folder.join("expressions.txt"))?;
    let expressions: Vec<&str> = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let mut answers = Vec::new();
    for (name, body) in resources(folder)? {
        for expression in &expressions {
            let question = Question {
                resource: name.clone(),
                expression: (*expression).to_owned(),
            };
            answers.push((question, ours::answer(&body, expression)?));
        }
    }
    Ok(answers)
}

fn resources(folder: &Path) -> Result<Vec<(String, String)>, Failure> {
    let mut resources = HashMap::new();
    for entry in fs::read_dir(folder.join("resources"))? {
        let file = entry?.path();
        let name = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        resources.insert(name, fs::read_to_string(&file)?);
    }
    let mut resources: Vec<_> = resources.into_iter().collect();
    resources.sort();
    Ok(resources)
}
