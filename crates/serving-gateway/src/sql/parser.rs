//! PostgreSQL's parser, on a thread of its own.
//!
//! One thread for the process: however many statements come, parsing takes one core at most. Its stack is large enough for the deepest tree that the parser
//! gives out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use pg_query::NodeEnum;
use pg_query::protobuf::SelectStmt;
use tokio::sync::oneshot;

use super::fault::{Checked, Fault};
use super::tokens::Scanned;

/// Trees come at most 100 messages deep; a level takes some ten kilobytes in a build without optimisation.
const STACK_BYTES: usize = 64 * 1024 * 1024;

type Job = Box<dyn FnOnce() + Send>;

/// Does work that parses on the parser's thread; `None` if it panicked, or if there can be no such thread.
pub(super) async fn on_its_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    let job = Box::new(move || {
        // Nobody waits for it any more.
        if !answer.is_closed() {
            let _gone = answer.send(work());
        }
    });
    jobs()?.send(job).ok()?;
    answered.await.ok()
}

fn jobs() -> Option<Sender<Job>> {
    static JOBS: OnceLock<Option<Sender<Job>>> = OnceLock::new();
    JOBS.get_or_init(|| {
        let (jobs, inbox) = channel::<Job>();
        let thread = std::thread::Builder::new()
            .name("sql parser".into())
            .stack_size(STACK_BYTES);
        let work = move || {
            for job in inbox {
                // The panic hook has said where; whoever waits gets no answer.
                let _panicked = catch_unwind(AssertUnwindSafe(job));
            }
        };
        thread.spawn(work).ok().map(|_| jobs)
    })
    .clone()
}

/// The one SELECT that a text is.
pub(super) fn parse(scanned: &Scanned<'_>) -> Checked<Box<SelectStmt>> {
    let parsed = match pg_query::parse(scanned.text, 0) {
        Ok(parsed) => parsed.protobuf,
        Err(pg_query::Error::Parse(message)) if is_too_deep(&message) => return Err(too_deep()),
        Err(pg_query::Error::Parse(message)) => return Err(syntax(scanned, &message)),
        // The depth of the tree's messages is bounded.
        Err(pg_query::Error::Decode(_)) => return Err(too_deep()),
        Err(_) => return Err(Fault::whole("cannot be read as SQL")),
    };
    let mut statements = parsed.stmts.into_iter();
    let (first, second) = (statements.next(), statements.next());
    let statement = first.and_then(|raw| raw.stmt).and_then(|node| node.node);
    match (statement, second) {
        (Some(NodeEnum::SelectStmt(select)), None) => Ok(select),
        _ => Err(Fault::whole(
            "must be one SELECT (or WITH ... SELECT, VALUES, TABLE)",
        )),
    }
}

fn is_too_deep(message: &str) -> bool {
    ["stack depth", "nested too deeply", "memory exhausted"]
        .iter()
        .any(|what| message.contains(what))
}

fn too_deep() -> Fault {
    Fault::whole(
        "nests too deeply: chains such as a || b || c may have some forty members, subqueries twenty levels",
    )
}

/// The place of a syntax error, of which the library tells only the words. The parser finds an error at the first token that cannot go on from those before it: the
/// shortest beginning of the text that fails otherwise than by its end has that token as its last.
fn syntax(scanned: &Scanned<'_>, message: &str) -> Fault {
    const AT_THE_END: &str = "at end of input";
    let rule = if message.starts_with("syntax error") {
        "syntax error"
    } else {
        "this is not valid SQL"
    };
    let ends = scanned.ends();
    if message.ends_with(AT_THE_END) {
        let at = ends.last().copied().unwrap_or(scanned.text.len());
        return Fault::at(at, "syntax error: the text ends too early");
    }
    let fails = |end: &usize| {
        let text = scanned.text.get(..*end).unwrap_or(scanned.text);
        matches!(pg_query::parse(text, 0), Err(pg_query::Error::Parse(said)) if !said.ends_with(AT_THE_END))
    };
    let token = ends.partition_point(|end| !fails(end));
    Fault::at(scanned.start_of(token), rule)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn fault(text: &str) -> Fault {
        parse(&Scanned::of(text).expect("tokens")).expect_err("not SQL")
    }

    #[test]
    fn a_syntax_error_is_told_by_its_place() {
        assert_eq!(fault("SELECT 1 FROM t WHERE ORDER BY 1").at, Some(22));
        assert_eq!(fault("SELECT 'é' FRM t WHERE x").at, Some(16));
        assert_eq!(fault("SELECT a FROM t GROUP 'Smith'").at, Some(22));
        assert_eq!(fault("SELECT * FROM").at, Some(13));
        assert_eq!(fault("SELECT 1 LIMIT 1, 2").rule, "this is not valid SQL");
    }

    #[test]
    fn what_is_too_deep_is_refused_and_not_a_crash() {
        std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn(|| {
                let chain = |n: usize| format!("SELECT 1{}", "+1".repeat(n));
                assert!(parse(&Scanned::of(&chain(30)).expect("tokens")).is_ok());
                for deep in [
                    chain(4_900),
                    chain(100),
                    format!("SELECT {}x", "- ".repeat(9_000)),
                    format!("SELECT {} true", "NOT ".repeat(9_000)),
                    format!("{}SELECT 1{}", "SELECT * FROM (".repeat(60), ") x".repeat(60)),
                    format!("SELECT 1{}", "::int".repeat(4_000)),
                ] {
                    let fault = parse(&Scanned::of(&deep).expect("tokens")).expect_err("too deep");
                    assert!(fault.rule.contains("too deeply"), "{}", fault.rule);
                }
            })
            .expect("a thread")
            .join()
            .expect("no panic");
    }

    /// Releases of the library could gather their warnings by turning the process's standard error, and our log, away during each parse.
    #[test]
    fn the_parser_leaves_the_standard_error_alone() {
        let error = || std::fs::read_link("/proc/self/fd/2").ok();
        let (before, done) = (error(), AtomicBool::new(false));
        let turned_away = std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..500 {
                    let parsed = pg_query::parse("SELECT 1", 0);
                    assert!(parsed.is_ok());
                }
                done.store(true, Ordering::Relaxed);
            });
            let mut turned_away = false;
            while !done.load(Ordering::Relaxed) {
                turned_away |= error() != before;
            }
            turned_away
        });
        assert!(!turned_away, "what is logged during a parse would be lost");
    }
}
