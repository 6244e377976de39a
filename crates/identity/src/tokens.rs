//! Static tokens: for small installations that have no authorisation server. The configuration knows their SHA-256 alone, so that who reads it cannot use them.
//!
//! ```text
//! # a line each: name, SHA-256 of the token in hex, scopes
//! ward-dashboard 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 system/Observation.rs system/Patient.rs
//! ```

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use daemon::{Principal, Proof, mounted};
use subtle::ConstantTimeEq as _;

use crate::{
    Grants,
    authenticator::Identity,
    scope::{Scope, Worthless},
};

/// Letters of a name at most.
const MAX_NAME: usize = 128;

/// A token, as it is known.
#[derive(Clone, Debug)]
pub(crate) struct StaticToken {
    digest: [u8; 32],
    identity: Identity,
}

/// Why a token cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// Its name.
    #[error("its name must be 1 to 128 letters, digits and any of -_.:/@")]
    Name,
    /// Its digest.
    #[error("its SHA-256 must be 64 hexadecimal digits: printf %s \"$TOKEN\" | sha256sum")]
    Digest,
    /// A scope.
    #[error("a scope of it grants nothing: {}", .0.rule())]
    Scope(Worthless),
    /// There is none.
    #[error("it has no scope")]
    NoScope,
    /// Another one has its name, or its digest.
    #[error("another token has the same name, or is the same")]
    Twice,
}

/// What is wrong with a file of tokens.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokensFileError {
    /// It cannot be read.
    #[error("cannot be read: {}", .0.kind())]
    Unreadable(#[from] std::io::Error),
    /// It is not UTF-8.
    #[error("is not text in UTF-8")]
    NoText,
    /// A line.
    #[error("line {line}: {error}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        error: TokenError,
    },
}

impl StaticToken {
    /// Checks all of it: a scope that grants nothing is a mistake here, where the operator writes it.
    pub(crate) fn new<'a>(
        name: &str,
        digest: &str,
        scopes: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<Self, TokenError> {
        if !is_name(name) {
            return Err(TokenError::Name);
        }
        let digest = hex(digest).ok_or(TokenError::Digest)?;
        let grants = granted(scopes)?;
        let principal = Principal {
            name: name.into(),
            proof: Proof::StaticToken,
        };
        Ok(Self {
            digest,
            identity: Identity { principal, grants },
        })
    }
}

/// What scopes that an operator has written grant; each must grant something.
pub(crate) fn granted<'a>(scopes: impl Iterator<Item = &'a str> + Clone) -> Result<Grants, TokenError> {
    let mut none = true;
    for scope in scopes.clone() {
        none = false;
        if let Scope::Nothing(why) = Scope::parse(scope) {
            return Err(TokenError::Scope(why));
        }
    }
    if none {
        return Err(TokenError::NoScope);
    }
    Ok(Grants::of(scopes))
}

/// A name that can stand in audits and in configurations.
fn is_name(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(word)
}

fn hex(text: &str) -> Option<[u8; 32]> {
    let bytes = text.as_bytes();
    if bytes.len() != 64 || !bytes.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(bytes.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

/// All tokens that are known: those of the configuration, and those of a file that may change. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tokens {
    of_config: Vec<StaticToken>,
    known: Arc<RwLock<Arc<Vec<StaticToken>>>>,
}

impl Tokens {
    /// Those of the configuration alone.
    pub(crate) fn new(of_config: Vec<StaticToken>) -> Self {
        Self {
            known: Arc::new(RwLock::new(Arc::new(of_config.clone()))),
            of_config,
        }
    }

    /// Reads a file, and goes over to what it holds beside what the configuration does; answers that.
    pub(crate) fn read(&self, file: &Path) -> Result<Vec<u8>, TokensFileError> {
        let bytes = mounted::read(file)?;
        self.take(&bytes)?;
        Ok(bytes)
    }

    /// Whose token has this digest. All are compared, each in the same time whatever it is.
    pub(crate) fn holder(&self, digest: &[u8; 32]) -> Option<Identity> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut found = None;
        for token in known.iter() {
            if token.digest.ct_eq(digest).into() {
                found = Some(&token.identity);
            }
        }
        found.cloned()
    }

    /// Goes over to what a file holds, beside what the configuration does.
    pub(crate) fn take(&self, bytes: &[u8]) -> Result<(), TokensFileError> {
        let text = std::str::from_utf8(bytes).map_err(|_| TokensFileError::NoText)?;
        let mut tokens = self.of_config.clone();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let token = of_line(line).and_then(|token| {
                tokens.push(token);
                distinct(&tokens)
            });
            token.map_err(|error| TokensFileError::Line {
                line: number + 1,
                error,
            })?;
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
        Ok(())
    }
}

fn of_line(line: &str) -> Result<StaticToken, TokenError> {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default();
    let digest = words.next().unwrap_or_default();
    StaticToken::new(name, digest, words)
}

/// No two have one name, or are one token.
pub(crate) fn distinct(tokens: &[StaticToken]) -> Result<(), TokenError> {
    let names: BTreeSet<&str> = tokens
        .iter()
        .map(|token| &*token.identity.principal.name)
        .collect();
    let digests: BTreeSet<&[u8; 32]> = tokens.iter().map(|token| &token.digest).collect();
    if names.len() == tokens.len() && digests.len() == tokens.len() {
        Ok(())
    } else {
        Err(TokenError::Twice)
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn digest(token: &str) -> [u8; 32] {
        Sha256::digest(token).into()
    }

    fn hex_of(token: &str) -> String {
        digest(token)
            .iter()
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }

    fn token(name: &str, token: &str) -> StaticToken {
        StaticToken::new(name, &hex_of(token), ["system/Patient.rs"].into_iter()).expect("a token")
    }

    #[test]
    fn a_token_is_known_by_its_digest() {
        let tokens = Tokens::new(vec![token("a", "one"), token("b", "two")]);
        let name = |shown: &str| {
            tokens
                .holder(&digest(shown))
                .map(|held| held.principal.name.to_string())
        };
        assert_eq!(name("two").as_deref(), Some("b"));
        assert_eq!(name("three"), None);
        assert_eq!(name(&hex_of("two")), None, "its digest is not the token");
        let held = tokens.holder(&digest("one")).expect("known");
        assert_eq!(held.principal.proof, Proof::StaticToken);
        assert!(held.grants.may_read("Patient") && !held.grants.may_read("Observation"));
    }

    #[test]
    fn what_an_operator_gets_wrong_is_told() {
        let good = hex_of("one");
        let of = |name: &str, digest: &str, scopes: &[&str]| {
            StaticToken::new(name, digest, scopes.iter().copied())
                .map(|_| ())
                .expect_err("wrong")
        };
        let scope = ["system/Patient.rs"];
        assert_eq!(of("", &good, &scope), TokenError::Name);
        assert_eq!(of("two words", &good, &scope), TokenError::Name);
        assert_eq!(of("a", "one", &scope), TokenError::Digest);
        assert_eq!(of("a", &good[1..], &scope), TokenError::Digest);
        assert_eq!(
            of("a", &good.replace(|_: char| true, "g"), &scope),
            TokenError::Digest
        );
        assert_eq!(of("a", &good, &[]), TokenError::NoScope);
        assert_eq!(
            of("a", &good, &["system/Patient.rs", "system/Pateint.rs"]),
            TokenError::Scope(Worthless::Unknown)
        );
        assert_eq!(
            of("a", &good, &["patient/Patient.rs"]),
            TokenError::Scope(Worthless::Context)
        );
        assert_eq!(
            distinct(&[token("a", "one"), token("a", "two")]),
            Err(TokenError::Twice)
        );
        assert_eq!(
            distinct(&[token("a", "one"), token("b", "one")]),
            Err(TokenError::Twice)
        );
    }

    #[test]
    fn a_file_has_a_token_a_line_and_replaces_what_it_held_only_as_a_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokens");
        let line = |name: &str, token: &str| {
            format!(
                "{name} {} system/*.rs system/researchflow.operate\n",
                hex_of(token)
            )
        };
        std::fs::write(&path, format!("# who\n\n{}", line("a", "one"))).expect("written");
        let tokens = Tokens::new(vec![token("of-config", "zero")]);
        tokens.read(&path).expect("a good file");
        let known = |shown: &str| tokens.holder(&digest(shown)).is_some();
        assert!(known("zero") && known("one") && !known("two"));
        tokens.take(line("b", "two").as_bytes()).expect("good");
        assert!(known("zero") && known("two") && !known("one"));
        let half = format!("{}c nothing system/*.rs\n", line("a", "one"));
        let error = tokens.take(half.as_bytes()).expect_err("line 2 is wrong");
        assert!(matches!(
            error,
            TokensFileError::Line {
                line: 2,
                error: TokenError::Digest
            }
        ));
        assert!(known("two") && !known("one"));
        let twice = tokens
            .take(line("of-config", "three").as_bytes())
            .expect_err("twice");
        assert!(matches!(
            twice,
            TokensFileError::Line {
                line: 1,
                error: TokenError::Twice
            }
        ));
        assert!(matches!(tokens.take(&[0xff]), Err(TokensFileError::NoText)));
    }
}
