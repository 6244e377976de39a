//! The body of a request, read within bounds: its kind, its bytes, its time, and the memory of all bodies together.
//!
//! A body takes of the common memory what has come of it, so that many slow ones hold up nobody; it gives it back once Redis has what was made of it.

use std::{io, sync::Arc, time::Duration};

use api::{Code, ServiceError};
use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, header},
};
use daemon::connections::discard;
use http_body_util::BodyExt;
use memmap2::MmapMut;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::hex::hex;

/// The unit in which the memory of bodies is reckoned: a number of bytes would not always fit where permits are counted.
const UNIT_BYTES: usize = 1024;

/// Bounds of a request.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a body, decompressed.
    pub body_bytes: usize,
    /// Nesting of objects and arrays.
    pub depth: usize,
    /// How long a body may take to come.
    pub body_time: Duration,
    /// Bytes of all bodies that are being read or worked on.
    pub memory_bytes: usize,
    /// Requests whose body has come and is being worked on.
    pub in_flight: usize,
}

/// Reads bodies. Shared by all requests.
#[derive(Debug)]
pub struct Bodies {
    limits: Limits,
    memory: Arc<Semaphore>,
    in_flight: Arc<Semaphore>,
}

/// A body that has come, and what it holds of the common bounds until it is dropped.
#[derive(Debug)]
pub struct Received {
    /// The bytes.
    pub bytes: Bytes,
    held: Held,
}

/// What a body holds of the common bounds: to be kept as long as it, or what was made of it, is in memory.
#[derive(Debug)]
pub struct Held {
    _memory: Option<OwnedSemaphorePermit>,
    _in_flight: OwnedSemaphorePermit,
}

impl Received {
    /// Lets the bytes go.
    pub fn into_held(self) -> Held {
        self.held
    }
}

/// A request that is refused, with what is known of its body.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub error: ServiceError,
    /// What is noted of it, if it is the sender's fault.
    pub letter: Option<Letter>,
}

/// What a dead letter says of a body.
#[derive(Debug)]
pub struct Letter {
    /// SHA-256 in hex; empty if the body was not read to its end.
    pub sha256: String,
    /// Bytes that were read.
    pub bytes: u64,
}

impl From<ServiceError> for Refused {
    fn from(error: ServiceError) -> Self {
        Self { error, letter: None }
    }
}

impl Refused {
    /// The body is wrong in itself.
    pub fn of(error: ServiceError, body: &[u8]) -> Self {
        let sha256 = hex(&Sha256::digest(body));
        Self {
            error,
            letter: Some(Letter {
                sha256,
                bytes: body.len() as u64,
            }),
        }
    }

    fn unread(error: ServiceError, bytes: u64) -> Self {
        let sha256 = String::new();
        Self {
            error,
            letter: Some(Letter { sha256, bytes }),
        }
    }
}

impl Bodies {
    /// Bounds of all bodies.
    pub fn new(limits: Limits) -> Self {
        let units = limits.memory_bytes / UNIT_BYTES;
        Self {
            limits,
            memory: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
            in_flight: Arc::new(Semaphore::new(limits.in_flight)),
        }
    }

    /// The bounds.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Reads a body to its end.
    pub async fn read(&self, headers: &HeaderMap, mut body: Body) -> Result<Received, Refused> {
        if let Err(error) = check_headers(headers, self.limits.body_bytes) {
            let bytes = declared_length(headers).unwrap_or_default();
            discard(body).await;
            return Err(Refused::unread(error, bytes));
        }
        let most = match declared_length(headers) {
            Some(length) => usize::try_from(length).unwrap_or(usize::MAX),
            None => self.limits.body_bytes,
        };
        let collecting = self.collect(&mut body, most.min(self.limits.body_bytes));
        match tokio::time::timeout(self.limits.body_time, collecting).await {
            Ok(Ok((bytes, memory))) => {
                let in_flight = self.in_flight.clone().try_acquire_owned().map_err(|_| busy())?;
                let held = Held {
                    _memory: memory,
                    _in_flight: in_flight,
                };
                Ok(Received { bytes, held })
            }
            Ok(Err(refused)) => {
                discard(body).await;
                Err(refused)
            }
            Err(_) => Err(Refused::unread(
                ServiceError::new(Code::SlowRequest, "the body did not come in time"),
                0,
            )),
        }
    }

    async fn collect(
        &self,
        body: &mut Body,
        most: usize,
    ) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Refused> {
        let (mut first, mut whole, mut size) = (None::<Bytes>, None::<Whole>, 0);
        let mut memory = None::<OwnedSemaphorePermit>;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refused::unread(broken(), size as u64))?;
            let Ok(part) = frame.into_data() else {
                continue;
            };
            size += part.len();
            if size > self.limits.body_bytes {
                return Err(Refused::unread(
                    too_large(self.limits.body_bytes),
                    self.limits.body_bytes as u64 + 1,
                ));
            }
            if size > most {
                return Err(Refused::unread(broken(), size as u64));
            }
            let held = memory.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let wanted = size.div_ceil(UNIT_BYTES).saturating_sub(held);
            let more = self
                .memory
                .clone()
                .try_acquire_many_owned(u32::try_from(wanted).unwrap_or(u32::MAX))
                .map_err(|_| busy())?;
            match &mut memory {
                Some(memory) => memory.merge(more),
                None => memory = Some(more),
            }
            match first.take() {
                // Most bodies come in one part, which is not copied.
                None if whole.is_none() => first = Some(part),
                earlier => {
                    let whole = match &mut whole {
                        Some(whole) => whole,
                        none => none.insert(Whole::of(most).map_err(|_| busy())?),
                    };
                    whole.add(&earlier.unwrap_or_default());
                    whole.add(&part);
                }
            }
        }
        let whole = || whole.map(Whole::into_bytes).unwrap_or_default();
        Ok((first.unwrap_or_else(whole), memory))
    }
}

/// A body that came in parts, in a place for as much as it may come to: growing would copy it, and hold it twice.
///
/// The place is a mapping of its own: of it only what was written takes memory, and it is given back at once, where an allocator may keep what it was given back for the
/// next one, on each of its threads.
struct Whole {
    place: MmapMut,
    length: usize,
}

impl Whole {
    fn of(most: usize) -> io::Result<Self> {
        let place = MmapMut::map_anon(most.max(1))?;
        // A huge page would take two megabytes for the first byte. A kernel without them does not know of it.
        #[cfg(target_os = "linux")]
        let _unknown = place.advise(memmap2::Advice::NoHugePage);
        Ok(Self { place, length: 0 })
    }

    fn add(&mut self, part: &[u8]) {
        let end = self.length + part.len();
        self.place[self.length..end].copy_from_slice(part);
        self.length = end;
    }

    fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self.place).slice(..self.length)
    }
}

fn check_headers(headers: &HeaderMap, most_bytes: usize) -> Result<(), ServiceError> {
    if content_type(headers).contains("xml") {
        let message = "XML is not taken: set the Subscription's channel.payload to application/fhir+json";
        return Err(ServiceError::new(Code::UnsupportedMedia, message));
    }
    // What the decompression in front could open has lost this header.
    if headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| encoding != "identity")
    {
        return Err(ServiceError::new(
            Code::UnsupportedMedia,
            "Content-Encoding must be gzip, deflate or none",
        ));
    }
    match declared_length(headers) {
        Some(length) if length > most_bytes as u64 => Err(too_large(most_bytes)),
        _ => Ok(()),
    }
}

/// The media type of a body; empty if it is not said.
pub fn content_type(headers: &HeaderMap) -> &str {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub(crate) fn too_large(most_bytes: usize) -> ServiceError {
    ServiceError::new(
        Code::TooLarge,
        format!("the body is larger than {most_bytes} bytes (webhook.max_body_bytes)"),
    )
}

fn busy() -> ServiceError {
    ServiceError::new(Code::Unavailable, "too many requests at once: try again")
}

fn broken() -> ServiceError {
    ServiceError::new(
        Code::Invalid,
        "the body cannot be read: cut off, or not in its Content-Encoding",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(memory_bytes: usize) -> Bodies {
        Bodies::new(Limits {
            body_bytes: 10_000,
            depth: 10,
            body_time: Duration::from_secs(10),
            memory_bytes,
            in_flight: 2,
        })
    }

    async fn read(bodies: &Bodies, bytes: usize) -> Result<Received, Code> {
        let body = Body::from(vec![b'x'; bytes]);
        bodies
            .read(&HeaderMap::new(), body)
            .await
            .map_err(|refused| refused.error.code)
    }

    #[tokio::test]
    async fn a_body_in_parts_is_put_together() {
        for parts in [&[][..], &["a"], &["", "a"], &["a", "", "bc", "d"]] {
            let stream = futures::stream::iter(parts.iter().map(|part| Ok::<_, std::io::Error>(*part)));
            let read = bodies(16 * 1024)
                .read(&HeaderMap::new(), Body::from_stream(stream))
                .await;
            assert_eq!(read.unwrap().bytes, parts.concat());
        }
    }

    #[tokio::test]
    async fn bodies_share_a_bounded_memory_and_give_it_back() {
        let bodies = bodies(16 * 1024);
        let first = read(&bodies, 9_000).await.unwrap();
        assert_eq!(first.bytes.len(), 9_000);

        assert_eq!(read(&bodies, 9_000).await.unwrap_err(), Code::Unavailable);
        assert_eq!(read(&bodies, 10_001).await.unwrap_err(), Code::TooLarge);
        let _second = read(&bodies, 1_000).await.unwrap();
        assert_eq!(
            read(&bodies, 1).await.unwrap_err(),
            Code::Unavailable,
            "in flight"
        );
        drop(first);
        assert!(read(&bodies, 9_000).await.is_ok());
    }
}
