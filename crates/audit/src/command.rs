//! `<daemon> audit verify` and `<daemon> audit hash`: what an auditor does with the files, with the binary that wrote them.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::{
    chain::{self, Head, Verified},
    keys::Keys,
};

/// The word that a daemon is called with for these.
const WORD: &str = "audit";

/// Does it, if the process was called for it; the daemon is not to be run then.
pub fn run(daemon: &'static str) -> Option<ExitCode> {
    let mut words = std::env::args_os();
    if words.nth(1).is_none_or(|word| word != WORD) {
        return None;
    }
    let matches = command(daemon).get_matches_from(std::env::args_os().skip(1));
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    let done = match matches.subcommand() {
        Some(("verify", matches)) => verify(matches, &mut out),
        Some(("hash", matches)) => hash(matches, io::stdin().lock(), &mut out),
        _ => Err("verify or hash".to_owned()),
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _unwritable = writeln!(err, "{daemon} audit: {why}");
            ExitCode::FAILURE
        }
    })
}

fn command(daemon: &'static str) -> Command {
    let path = |name: &'static str| Arg::new(name).value_parser(value_parser!(PathBuf)).required(true);
    Command::new(WORD)
        .bin_name(format!("{daemon} audit"))
        .about("Checks files of the audit, and finds what was recorded of a value")
        .subcommand_required(true)
        .subcommand(
            Command::new("verify")
                .about("Checks that no line of these files was changed, taken out or put in; the files in their order, of one chain")
                .arg(path("FILE").num_args(1..))
                .arg(Arg::new("whole").long("whole").num_args(0).help("The first file is the first of all: its chain begins here"))
                .arg(
                    Arg::new("head")
                        .long("head")
                        .value_name("SEQ:HASH")
                        .help("A head that was noted before, as this command tells it: that line must be there"),
                ),
        )
        .subcommand(
            Command::new("hash")
                .about("Reads values, one a line, from the standard input, and writes for each the hash under every key: NAME HASH")
                .arg(path("keys").long("keys").value_name("FILE").help("audit.key_file")),
        )
}

fn verify(matches: &ArgMatches, out: &mut impl Write) -> Result<(), String> {
    let files: Vec<&PathBuf> = matches.get_many("FILE").into_iter().flatten().collect();
    let noted = matches
        .get_one::<String>("head")
        .map(|text| noted(text))
        .transpose()?;
    let mut before = matches.get_flag("whole").then(Head::default);
    let (mut all, mut found) = (Verified::default(), false);
    for file in files {
        let open = || File::open(file).map_err(|error| format!("{}: {}", file.display(), error.kind()));
        let told = |broken: chain::Broken| format!("{}: {broken}", file.display());
        let verified = chain::verify(BufReader::new(open()?), before).map_err(told)?;
        if let Some(noted) = &noted {
            found |= has(BufReader::new(open()?), noted)
                .map_err(|error| format!("{}: {}", file.display(), error.kind()))?;
        }
        all.lines += verified.lines;
        all.torn += verified.torn;
        if verified.lines > 0 {
            all.head = verified.head;
            before = Some(verified.head);
        }
    }
    if noted.is_some() && !found {
        return Err(
            "the line of --head is not there: the chain was written anew, or its end is missing".to_owned(),
        );
    }
    let Verified { lines, torn, head } = all;
    writeln!(
        out,
        "{lines} lines hold, {torn} torn by crashes; head {}:{}",
        head.seq,
        head.hex()
    )
    .map_err(|error| error.to_string())
}

/// `SEQ:HASH`
fn noted(text: &str) -> Result<(u64, String), String> {
    let parts = text
        .split_once(':')
        .and_then(|(seq, hash)| Some((seq.parse().ok()?, hash.to_owned())));
    parts.ok_or_else(|| "--head: must be SEQ:HASH, as a run before told it".to_owned())
}

fn has(file: impl BufRead, (seq, hash): &(u64, String)) -> io::Result<bool> {
    for line in file.split(b'\n') {
        if Head::of_line(&line?).is_some_and(|head| head.seq == *seq && head.hex() == *hash) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The values come by the standard input: arguments can be seen by others, and stay in a shell's history.
fn hash(matches: &ArgMatches, from: impl BufRead, out: &mut impl Write) -> Result<(), String> {
    let file: &Path = matches
        .get_one::<PathBuf>("keys")
        .map_or(Path::new(""), PathBuf::as_path);
    let keys = Keys::read(file).map_err(|error| format!("--keys: {error}"))?;
    for value in from.lines() {
        let value = value.map_err(|error| error.to_string())?;
        for key in keys.all() {
            writeln!(out, "{} {}", key.id(), key.hash(&value)).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str]) -> ArgMatches {
        let matches = command("x").get_matches_from([&["audit"][..], words].concat());
        let (_, matches) = matches.subcommand().expect("one");
        matches.clone()
    }

    #[test]
    fn files_are_checked_one_behind_the_other_and_a_noted_head_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut head, mut files, mut heads) = (Head::default(), Vec::new(), Vec::new());
        for name in ["one", "two"] {
            let mut bytes = Vec::new();
            head.link("{\"n\":1}", &mut bytes);
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("written");
            files.push(path.to_str().expect("text").to_owned());
            heads.push(format!("{}:{}", head.seq, head.hex()));
        }
        let check = |words: &[&str]| {
            let mut out = Vec::new();
            verify(&asked(words), &mut out).map(|()| String::from_utf8(out).expect("text"))
        };
        let (one, two) = (files[0].as_str(), files[1].as_str());
        let said = check(&["verify", "--whole", "--head", &heads[0], one, two]).expect("they hold");
        assert!(
            said.starts_with("2 lines hold, 0 torn") && said.trim_end().ends_with(&heads[1]),
            "{said}"
        );
        assert!(check(&["verify", two]).is_ok());
        assert!(check(&["verify", "--whole", two]).is_err());
        assert!(check(&["verify", two, one]).is_err());
        assert!(
            check(&["verify", "--head", &heads[1], one])
                .expect_err("cut off")
                .contains("--head")
        );
    }

    #[test]
    fn hashes_come_under_each_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        std::fs::write(
            &path,
            format!("new {}\nold {}\n", "ab".repeat(32), "cd".repeat(32)),
        )
        .expect("written");
        let mut out = Vec::new();
        hash(
            &asked(&["hash", "--keys", path.to_str().expect("text")]),
            "12345\n".as_bytes(),
            &mut out,
        )
        .expect("hashed");
        let said = String::from_utf8(out).expect("text");
        let keys = Keys::read(&path).expect("keys");
        let expected: Vec<String> = keys
            .all()
            .iter()
            .map(|key| format!("{} {}", key.id(), key.hash("12345")))
            .collect();
        assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    }
}
