//! Bad input to every method: a clear error that names the field and holds no value, never a fault of ours, a hang or a panic.

use std::collections::BTreeSet;

use anyhow::Context as _;
use axum::http::HeaderValue;
use e2e::rpc::{Call, Said, framed};
use futures::{StreamExt as _, stream};
use prost_reflect::{Kind, MethodDescriptor};
use tonic::{Code, transport::Channel};

use crate::{
    made::{CANARY, Made, Wrong, spoilt},
    table::{Row, message, methods, table},
    whole::Whole,
};

/// What an error may be whoever is to blame but us, where all parts are there.
const THE_CALLERS: [Code; 5] = [
    Code::InvalidArgument,
    Code::NotFound,
    Code::FailedPrecondition,
    Code::ResourceExhausted,
    Code::Unimplemented,
];

#[test]
fn the_table_has_every_method_of_every_service() -> anyhow::Result<()> {
    let contracts: BTreeSet<String> = methods()?.into_keys().collect();
    let known: BTreeSet<String> = table().into_keys().collect();
    let forgotten: Vec<_> = contracts.difference(&known).collect();
    assert!(
        forgotten.is_empty(),
        "say in table.rs what bad input is to {forgotten:?}"
    );
    let gone: Vec<_> = known.difference(&contracts).collect();
    assert!(gone.is_empty(), "no contract has {gone:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_to_any_method_is_the_callers_fault_and_told_without_a_value() -> anyhow::Result<()> {
    let whole = Whole::start().await?;
    let mut faults = Vec::new();
    for (path, row) in table() {
        let method = methods()?
            .remove(&path)
            .expect("the table is that of the contracts");
        let tested = Tested {
            channel: whole.channel(&path).await?,
            path: &path,
            method: &method,
            row: &row,
        };
        // No answer at all, or half of one, is a fault as well, and the others are to be told all the same.
        if let Err(error) = tested.all_cases(&mut faults).await {
            faults.push(format!("{path}: {error:#}"));
        }
    }
    let channel = whole.channel("ServingService").await?;
    for path in [
        "/researchflow.serving.v1.ServingService/Zq9-Canary-Doe",
        "/Zq9-Canary-Doe/Query",
    ] {
        let said = Call::to(path).send(&channel, framed(&[])).await?;
        if said.code() != Code::Unimplemented || said.message().contains(CANARY) {
            faults.push(format!("{path}: {said:?}"));
        }
    }
    for (daemon, log) in whole.logs() {
        for planted in [CANARY, "a panic", "internal error"] {
            if let Some(line) = log.lines().find(|line| line.contains(planted)) {
                faults.push(format!("{daemon} has logged {planted:?}: {}", shortened(line)));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
    Ok(())
}

/// A method under test.
struct Tested<'a> {
    channel: Channel,
    path: &'a str,
    method: &'a MethodDescriptor,
    row: &'a Row,
}

impl Tested<'_> {
    fn call(&self) -> Call<'_> {
        Call {
            first_only: self.row.endless,
            ..Call::to(self.path)
        }
    }

    async fn send(&self, bytes: Vec<u8>) -> anyhow::Result<Said> {
        self.call().send(&self.channel, bytes).await
    }

    async fn send_with(&self, header: (&'static str, &str), bytes: Vec<u8>) -> anyhow::Result<Said> {
        let headers = [header];
        let call = Call {
            headers: &headers,
            ..self.call()
        };
        call.send(&self.channel, bytes).await
    }

    async fn all_cases(&self, faults: &mut Vec<String>) -> anyhow::Result<()> {
        self.known_cases(faults).await?;
        self.broken_messages(faults).await?;
        self.made_cases(faults).await?;
        // Still there, and still answering.
        let good = self.send(framed(&self.row.good)).await?;
        self.expect("a good request, at last", &good, self.row.of_good, faults);
        Ok(())
    }

    /// What the table has.
    async fn known_cases(&self, faults: &mut Vec<String>) -> anyhow::Result<()> {
        let good = self.send(framed(&self.row.good)).await?;
        self.expect("a good request", &good, self.row.of_good, faults);
        let empty = self.send(framed(&[])).await?;
        self.expect("an empty request", &empty, self.row.of_empty, faults);
        let packed = self
            .send_with(("grpc-accept-encoding", "gzip"), framed(&self.row.good))
            .await?;
        let encoding = packed.head.get("grpc-encoding").map(HeaderValue::as_bytes);
        if packed.code() == Code::Ok && encoding != Some(b"gzip") {
            self.fault("one who takes gzip", &packed, "gets none", faults);
        }
        for bad in &self.row.further {
            let said = self.send(framed(&bad.request)).await?;
            self.expect(bad.what, &said, bad.code, faults);
            if said.field().as_deref() != Some(bad.field) {
                self.fault(bad.what, &said, "names another field", faults);
            }
        }
        Ok(())
    }

    /// Bytes that are no message, and messages in no proper wrapping.
    async fn broken_messages(&self, faults: &mut Vec<String>) -> anyhow::Result<()> {
        let streams = self.method.is_client_streaming();
        let one = |first: u8, rest: &[u8]| [&[first], rest].concat();
        let none = self.send(Vec::new()).await?;
        let of_none = if streams { Code::Ok } else { Code::InvalidArgument };
        self.expect("no message", &none, of_none, faults);
        let canary = CANARY.as_bytes();
        for (what, bytes, code) in [
            (
                "bytes that are no message",
                framed(&[0xff; 11]),
                Code::InvalidArgument,
            ),
            (
                "a message that is cut off",
                one(0, &[0, 0, 0, 99, 1, 2]),
                Code::InvalidArgument,
            ),
            (
                "a flag that does not exist",
                one(7, &[0, 0, 0, 0]),
                Code::InvalidArgument,
            ),
            (
                "packed, it does not say how",
                one(1, &[0, 0, 0, 0]),
                Code::InvalidArgument,
            ),
            (
                "larger than anything",
                one(0, &[0x7f, 0, 0, 0, 1]),
                Code::ResourceExhausted,
            ),
        ] {
            let said = self.send(bytes).await?;
            self.expect(what, &said, code, faults);
        }
        let packed = [&[1_u8, 0, 0, 0, 14][..], canary].concat();
        let said = self.send_with(("grpc-encoding", "gzip"), packed).await?;
        self.expect("gzip that is none", &said, Code::InvalidArgument, faults);
        let said = self
            .send_with(("grpc-encoding", CANARY), framed(&self.row.good))
            .await?;
        self.expect("an encoding that is none", &said, Code::Unimplemented, faults);
        let said = self
            .send_with(("grpc-timeout", CANARY), framed(&self.row.good))
            .await?;
        self.expect("a deadline that is none", &said, Code::InvalidArgument, faults);
        let said = self
            .send_with(("content-type", "application/json"), b"{}".to_vec())
            .await?;
        if said.http != 415 {
            self.fault("JSON", &said, "is not 415", faults);
        }
        self.spoilt_fields(faults).await
    }

    /// The right fields with the wrong bytes.
    async fn spoilt_fields(&self, faults: &mut Vec<String>) -> anyhow::Result<()> {
        for field in self.method.input().fields() {
            let number = u8::try_from(field.number() << 3)?;
            let mut cases = Vec::new();
            // A number in place of what has a length, and the other way about.
            let has_length = matches!(field.kind(), Kind::String | Kind::Bytes | Kind::Message(_));
            if has_length {
                cases.push(("a number", vec![number, 1]));
            } else {
                cases.push(("a text", [&[number | 2, 14][..], CANARY.as_bytes()].concat()));
            }
            if field.kind() == Kind::String {
                let text = [&[number | 2, 16][..], CANARY.as_bytes(), &[0xff, 0xfe]].concat();
                cases.push(("no UTF-8", text));
            }
            for (what, bytes) in cases {
                // Numbers of a repeated field may come packed, as bytes of a length.
                if field.is_packed() {
                    continue;
                }
                let said = self.send(framed(&bytes)).await?;
                self.expect(what, &said, Code::InvalidArgument, faults);
                if !said
                    .field()
                    .is_some_and(|path| path.contains(field.name()) || is_of_oneof(&field, &path))
                {
                    self.fault(what, &said, &format!("does not name {}", field.name()), faults);
                }
            }
        }
        Ok(())
    }

    /// Each field with each value that should not be there.
    async fn made_cases(&self, faults: &mut Vec<String>) -> anyhow::Result<()> {
        let good = message(self.method, self.row)?;
        let sent = stream::iter(spoilt(&good))
            .map(|made| async move {
                let said = self.send(framed(&made.bytes)).await;
                (made, said)
            })
            // As many as a busy client sends at once; more than a service lets in would be refused for that.
            .buffered(3);
        let mut sent = std::pin::pin!(sent);
        while let Some((made, said)) = sent.next().await {
            let said = said.with_context(|| format!("{:?} as {}", made.wrong, made.dotted()))?;
            self.judge(&made, &said, faults);
        }
        Ok(())
    }

    fn judge(&self, made: &Made, said: &Said, faults: &mut Vec<String>) {
        let (what, code) = (format!("{:?} as {}", made.wrong, made.dotted()), said.code());
        let leaf = made.path.last().map_or("", |field| field.name());
        if code == Code::Ok {
            let refused = match made.wrong {
                Wrong::Enum => true,
                Wrong::Negative => made.is_ours() && !self.row.any_number.contains(&leaf),
                _ => false,
            };
            if refused {
                self.fault(&what, said, "is taken", faults);
            }
            return;
        }
        if !THE_CALLERS.contains(&code) {
            self.fault(&what, said, "is no fault of the caller's", faults);
        }
        if said.message().contains(CANARY) && !self.row.names.contains(&leaf) {
            self.fault(&what, said, "holds the value", faults);
        }
        self.details(&what, said, faults);
        let named = said.field().unwrap_or_default() + " " + said.message();
        let instead = said
            .field()
            .is_some_and(|field| self.row.instead.contains(&field.as_str()));
        if code == Code::InvalidArgument
            && !instead
            && !made.path.iter().any(|field| named.contains(field.name()))
        {
            self.fault(&what, said, "names no field on the way", faults);
        }
    }

    fn expect(&self, what: &str, said: &Said, code: Code, faults: &mut Vec<String>) {
        if said.code() != code {
            self.fault(what, said, &format!("is not {code:?}"), faults);
        }
        if said.message().contains(CANARY) {
            self.fault(what, said, "holds the value", faults);
        }
        self.details(what, said, faults);
    }

    /// An error has its reason; an answer of either kind the request's id.
    fn details(&self, what: &str, said: &Said, faults: &mut Vec<String>) {
        let reason = said.details().error_info().map(|info| info.reason.clone());
        if said.code() != Code::Ok && reason.is_none_or(|reason| reason.is_empty()) {
            self.fault(what, said, "has no reason in its details", faults);
        }
        if !said.head.contains_key("x-request-id") {
            self.fault(what, said, "has no id", faults);
        }
    }

    fn fault(&self, what: &str, said: &Said, why: &str, faults: &mut Vec<String>) {
        faults.push(format!(
            "{}: {what} {why}: HTTP {}, {:?} {:?}, field {:?}",
            self.path,
            said.http,
            said.code(),
            shortened(said.message()),
            said.field()
        ));
    }
}

/// The decoder calls a field of a oneof by the oneof's name too.
fn is_of_oneof(field: &prost_reflect::FieldDescriptor, path: &str) -> bool {
    field
        .containing_oneof()
        .is_some_and(|oneof| path.contains(oneof.name()))
}

fn shortened(text: &str) -> String {
    text.chars().take(300).collect()
}
