//! Calls to other layers: the way to one, and what every call over it carries.

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
};

use super::{Outgoing, Way, channel};
use crate::{ConfigError, Shutdown, mounted};

/// A way to another service, over which each call carries what [`Outward`] has.
pub type Line = InterceptedService<Outgoing, Outward>;

/// What calls to other layers carry: the token that shows who we are, where one is configured. Cheap to clone.
#[derive(Clone, Default)]
pub struct Outward {
    token: Arc<RwLock<Option<MetadataValue<Ascii>>>>,
}

/// A file of a token that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum TokenFileError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(std::io::ErrorKind),
    /// It is empty, or holds what cannot stand in a header.
    #[error("must hold one token: visible ASCII without spaces")]
    Unusable,
}

impl Outward {
    /// With the token of a file, which is followed until the stop; with none where the file is `""`. `key` is that of the configuration. Needs a tokio runtime.
    pub fn with_token_of(key: &'static str, file: &Path, shutdown: &Shutdown) -> Result<Self, ConfigError> {
        let this = Self::default();
        if file.as_os_str().is_empty() {
            return Ok(this);
        }
        let read = mounted::read(file).map_err(|error| TokenFileError::Unreadable(error.kind()));
        let taken = read.and_then(|bytes| {
            this.take(&bytes)?;
            Ok(bytes)
        });
        let taken = taken.map_err(|error| ConfigError::Invalid(vec![format!("{key}: {error}")]))?;
        let kept = this.clone();
        let take = move |bytes: &[u8]| kept.take(bytes);
        shutdown.spawn(mounted::follow(
            key,
            file.to_owned(),
            taken,
            take,
            shutdown.clone(),
        ));
        Ok(this)
    }

    fn take(&self, bytes: &[u8]) -> Result<(), TokenFileError> {
        let token = std::str::from_utf8(bytes)
            .map(str::trim)
            .ok()
            .filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()))
            .ok_or(TokenFileError::Unusable)?;
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
            .parse()
            .map_err(|_| TokenFileError::Unusable)?;
        value.set_sensitive(true);
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    }
}

impl Interceptor for Outward {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = self.token.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", token);
        }
        Ok(request)
    }
}

impl std::fmt::Debug for Outward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outward")
    }
}

/// A way to another service, as [`channel`] makes it.
pub fn line(way: Way<'_>, outward: &Outward) -> Result<Line, ConfigError> {
    Ok(InterceptedService::new(
        Outgoing::over(channel(way)?),
        outward.clone(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(outward: &Outward) -> Option<String> {
        let request = outward.clone().call(Request::new(())).expect("it goes out");
        let value = request.metadata().get("authorization")?;
        Some(value.to_str().expect("ascii").to_owned())
    }

    #[test]
    fn a_token_goes_with_every_call_and_a_bad_file_changes_nothing() {
        let outward = Outward::default();
        assert_eq!(carried(&outward), None);
        outward.take(b" first\n").expect("a token");
        assert_eq!(carried(&outward).as_deref(), Some("Bearer first"));
        for bad in [&b""[..], b"\n", b"two words", b"\xff", b"a\nb"] {
            assert_eq!(outward.take(bad), Err(TokenFileError::Unusable));
        }
        assert_eq!(carried(&outward).as_deref(), Some("Bearer first"));
        outward.take(b"second").expect("a token");
        assert_eq!(carried(&outward).as_deref(), Some("Bearer second"));
        assert!(!format!("{outward:?}").contains("second"));
    }
}
