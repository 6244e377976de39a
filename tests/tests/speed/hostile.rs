//! Bodies that nobody should send, to the built ingestor as a process: none is taken, none is kept, each leaves a dead letter that says why and not what, and
//! the process neither falls nor grows.

use std::{io::Write as _, time::Duration};

use e2e::{
    process::{Daemon, Plan},
    redis::Redis,
    server::{self, Lifetime},
};
use flate2::{Compression, write::GzEncoder, write::ZlibEncoder};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::{Response, StatusCode, header};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::kit::{SECRET, http};

/// What must never be seen outside of Redis' readings and previews.
const CANARY: &str = "Zaphodcanary";
const BODIES: usize = 10_000;
/// `webhook.max_body_bytes`
const CAP: u64 = 4 << 20;
const MEBIBYTE: u64 = 1 << 20;

/// The built ingestor over a private Redis. No batch layer is there: every type is taken.
struct Attacked {
    redis: Redis,
    daemon: Daemon,
    base: String,
    client: reqwest::Client,
}

impl Attacked {
    async fn start() -> Self {
        let redis = Redis::start().await.unwrap();
        let config = format!(
            "[daemon]\ngrpc_listen = \"{{grpc}}\"\nadmin_listen = \"{{admin}}\"\n[webhook]\nlisten = \"{{http}}\"\nsecret = \"{SECRET}\"\nmax_body_bytes = {CAP}\n\
             [redis]\nurl = \"{}\"\n[batch]\nurl = \"http://127.0.0.1:9\"\n",
            redis.url()
        );
        let daemon = Daemon::start(Plan {
            name: "speed-ingestor",
            config,
            environment: Vec::new(),
            folder: server::new_folder("hostile", None, Lifetime::Program).unwrap(),
            lifetime: Lifetime::Program,
        })
        .await
        .unwrap();
        let base = format!("http://{}/fhir", daemon.address("http").unwrap());
        let client = http();
        Self {
            redis,
            daemon,
            base,
            client,
        }
    }

    async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        encoding: Option<&str>,
        body: Vec<u8>,
    ) -> Response {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(SECRET)
            .body(body);
        if let Some(encoding) = encoding {
            request = request.header(header::CONTENT_ENCODING, encoding);
        }
        request.send().await.unwrap()
    }

    /// Bytes that the process has in memory: now, and at most so far.
    fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.daemon.pid())).unwrap();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
        };
        (of("VmRSS:"), of("VmHWM:"))
    }

    async fn dead_letters(&self) -> Vec<String> {
        let client = redis::Client::open(self.redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let all: redis::Value = redis::cmd("XRANGE")
            .arg("fhir:dead")
            .arg("-")
            .arg("+")
            .query_async(&mut connection)
            .await
            .unwrap();
        let letters: Vec<redis::Value> = redis::from_redis_value(all).unwrap();
        letters.iter().map(|letter| format!("{letter:?}")).collect()
    }

    async fn keys(&self) -> Vec<String> {
        let client = redis::Client::open(self.redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut keys: Vec<String> = redis::cmd("KEYS")
            .arg("*")
            .query_async(&mut connection)
            .await
            .unwrap();
        keys.retain(|key| !matches!(key.as_str(), "fhir:dead" | "fhir:life"));
        keys
    }
}

fn good(id: &str) -> String {
    format!(
        r#"{{"resourceType":"Patient","id":"{id}","meta":{{"versionId":"3","lastUpdated":"2026-01-31T10:09:44.706+00:00"}},"name":[{{"family":"{CANARY}"}}],"extension":[{{"url":"x","valueDecimal":1.50}}]}}"#
    )
}

/// One body that is wrong in itself, and how it is sent.
fn wrong(random: &mut StdRng) -> (reqwest::Method, &'static str, Vec<u8>) {
    let (text, put) = (good("a"), reqwest::Method::PUT);
    let bytes = text.clone().into_bytes();
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1).into_bytes()
    };
    let body = match random.random_range(0..20) {
        // Cut off anywhere.
        0 => bytes[..random.random_range(0..bytes.len())].to_vec(),
        // A bracket, a colon or a quote turned into something that JSON does not know.
        1 => {
            let marks: Vec<usize> = (0..bytes.len())
                .filter(|at| b"{}[]:,\"".contains(&bytes[*at]))
                .collect();
            let mut bytes = bytes;
            bytes[marks[random.random_range(0..marks.len())]] = 0x01;
            bytes
        }
        2 => {
            let mut bytes = bytes;
            let at = random.random_range(0..=bytes.len());
            bytes.insert(at, 0xff);
            bytes
        }
        3 => (0..random.random_range(1..4000))
            .map(|_| random.random::<u8>() | 0x80)
            .collect(),
        4 => {
            let depth = random.random_range(201..50_000);
            format!(r#"{{"resourceType":"Patient","id":"a","x":{}"#, "[".repeat(depth)).into_bytes()
        }
        5 => {
            let depth = random.random_range(200..5_000);
            let (open, close) = (r#"{"a":"#.repeat(depth), "}".repeat(depth));
            format!(r#"{{"resourceType":"Patient","{CANARY}":{open}1{close}}}"#).into_bytes()
        }
        6 => changed(r#""versionId":"3""#, &format!(r#""versionId":"{CANARY}""#)),
        7 => changed(r#""versionId":"3""#, r#""versionId":3"#),
        8 => changed(r#""versionId":"3""#, r#""versionId":"99999999999999999999""#),
        9 => changed("2026-01-31T10:09:44.706+00:00", CANARY),
        10 => changed(r#""id":"a""#, &format!(r#""id":"{CANARY}""#)),
        11 => changed(
            r#""id":"a""#,
            &format!(r#""id":"{}""#, "a".repeat(random.random_range(65..3000))),
        ),
        12 => changed(r#""resourceType":"Patient""#, r#""resourceType":"Condition""#),
        13 => changed(
            r#""resourceType":"Patient""#,
            &format!(r#""resourceType":{{"{CANARY}":1}}"#),
        ),
        14 => changed(r#""id":"a","#, ""),
        15 => changed(r#""id":"a""#, r#""id":"a","id":"a""#),
        16 => format!("[{text}]").into_bytes(),
        17 => format!("{text}{text}").into_bytes(),
        18 => changed(r#""valueDecimal":1.50"#, r#""valueDecimal":0x1p5"#),
        _ => {
            let inner = [
                "{\"resource\":[]}",
                "{\"resource\":{\"resourceType\":5}}",
                "{\"resource\":{\"resourceType\":\"Patient\"}}",
                "7",
                "{\"fullUrl\":{}}",
            ][random.random_range(0..5)];
            let bundle = format!(r#"{{"resourceType":"Bundle","type":"history","entry":[{inner}]}}"#);
            return (reqwest::Method::POST, "", bundle.into_bytes());
        }
    };
    (put, "/Patient/a", body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_hostile_bodies_are_refused_and_leave_a_letter_each() {
    let attacked = Attacked::start().await;
    let seed = 2026;
    let mut random = StdRng::seed_from_u64(seed);
    let mut settled = 0;
    for number in 0..BODIES {
        let (method, path, body) = wrong(&mut random);
        let shown = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
        let response = attacked.send(method, path, None, body).await;
        let status = response.status();
        assert!(
            status.is_client_error(),
            "seed {seed}, body {number}: {status} for {shown}"
        );
        let answer = response.text().await.unwrap();
        assert!(
            answer.contains("OperationOutcome") && !answer.contains(CANARY),
            "{answer}"
        );
        if number == BODIES / 4 {
            settled = attacked.memory().0;
        }
    }
    let (now, _) = attacked.memory();
    println!(
        "resident: {} MiB after a quarter, {} MiB at the end",
        settled / MEBIBYTE,
        now / MEBIBYTE
    );
    assert!(now < settled + 8 * MEBIBYTE, "{settled} -> {now}");
    let letters = attacked.dead_letters().await;
    assert_eq!(letters.len(), BODIES);
    for letter in &letters {
        assert!(
            letter.contains("reason") && letter.contains("sha256") && !letter.contains(CANARY),
            "{letter}"
        );
    }
    assert!(!attacked.daemon.log().contains(CANARY) && !attacked.daemon.log().contains("panicked"));
    // The number of Redis's layout, and nothing of what was sent.
    assert_eq!(attacked.keys().await, ["fhir:layout"]);
    let response = attacked
        .send(reqwest::Method::PUT, "/Patient/a", None, good("a").into_bytes())
        .await;
    assert_eq!(response.status(), StatusCode::OK);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_are_refused_and_take_less_than_twice_the_cap() {
    let attacked = Attacked::start().await;
    let mut bombs = (
        GzEncoder::new(Vec::new(), Compression::fast()),
        ZlibEncoder::new(Vec::new(), Compression::fast()),
    );
    let mebibyte = vec![b' '; 1 << 20];
    for _ in 0..200 {
        bombs.0.write_all(&mebibyte).unwrap();
        bombs.1.write_all(&mebibyte).unwrap();
    }
    let (gzipped, deflated) = (bombs.0.finish().unwrap(), bombs.1.finish().unwrap());
    let nested = format!(
        r#"{{"resourceType":"Patient","id":"a","x":{}"#,
        "[".repeat(3 << 20)
    );
    // What a good body takes is not the bombs' doing.
    let response = attacked
        .send(
            reqwest::Method::PUT,
            "/Patient/a",
            Some("gzip"),
            gzip(good("a").as_bytes()),
        )
        .await;
    assert_eq!(response.status(), StatusCode::OK);
    let (before, _) = attacked.memory();
    for (encoding, body, status) in [
        (Some("gzip"), gzipped.clone(), StatusCode::PAYLOAD_TOO_LARGE),
        (Some("deflate"), deflated, StatusCode::PAYLOAD_TOO_LARGE),
        // A bomb within a bomb is opened once.
        (Some("gzip"), gzip(&gzipped), StatusCode::BAD_REQUEST),
        (None, nested.into_bytes(), StatusCode::BAD_REQUEST),
        (None, vec![b'['; 64 << 20], StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let response = attacked
            .send(reqwest::Method::PUT, "/Patient/a", encoding, body)
            .await;
        assert_eq!(response.status(), status, "{}", response.text().await.unwrap());
        let (_, peak) = attacked.memory();
        println!(
            "{encoding:?}: resident {} MiB before, {} MiB at most",
            before / MEBIBYTE,
            peak / MEBIBYTE
        );
        assert!(peak - before < 2 * CAP, "{before} -> {peak}");
    }
}

/// Slow in the head without a secret, and slow in the body with one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_slow_connections_hold_up_nobody() {
    let attacked = Attacked::start().await;
    let address = attacked.daemon.address("http").unwrap();
    let mut slow = Vec::new();
    for number in 0..500 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let begun = if number % 2 == 0 {
            "PUT /fhir/Patient/a HTTP/1.1\r\nHost: x\r\nX-".to_owned()
        } else {
            format!(
                "PUT /fhir/Patient/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\nContent-Length: 100\r\n\r\n{{"
            )
        };
        stream.write_all(begun.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    for number in 0..300 {
        let answer = attacked.send(reqwest::Method::PUT, "/Patient/a", None, good("a").into_bytes());
        let answer = tokio::time::timeout(Duration::from_secs(5), answer).await;
        let answer = answer.unwrap_or_else(|_| panic!("request {number} waits"));
        assert_eq!(answer.status(), StatusCode::OK);
        // Each goes on, byte by byte.
        let at = number % slow.len();
        slow[at].write_all(b"a").await.unwrap();
    }
    // Those whose body does not come are told so; the others lose their place when the time for a head is over.
    let mut answer = vec![0; 100];
    let read = tokio::time::timeout(Duration::from_secs(20), slow[1].read(&mut answer)).await;
    let read = read.expect("an answer within the body's time").unwrap();
    assert!(
        answer[..read].starts_with(b"HTTP/1.1 408"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}
