//! An authorisation server, played: its keys over HTTP, and tokens of any kind, also such as no honest one would sign.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use daemon::{Clock as _, SystemClock};
use ring::{
    hmac,
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA384,
        RsaKeyPair,
    },
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::AbortHandle};

/// A key of RSA takes long to make: one that is used by nothing but tests.
const RSA_KEY: &str = include_str!("../fixtures/issuer-rsa.pem");

/// What a key signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `EdDSA` (Ed25519)
    Ed,
    /// ES384
    Ec,
    /// RS384
    Rsa,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ed, Self::Ec, Self::Rsa];

    /// As `alg`.
    pub fn algorithm(self) -> &'static str {
        match self {
            Self::Ed => "EdDSA",
            Self::Ec => "ES384",
            Self::Rsa => "RS384",
        }
    }
}

#[derive(Debug)]
enum Pair {
    Ed(Ed25519KeyPair),
    Ec(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

/// A key that signs tokens.
#[derive(Debug)]
pub struct SigningKey {
    /// `kid`
    pub id: String,
    kind: Kind,
    pair: Pair,
}

impl SigningKey {
    /// A new one (of RSA, always the same).
    ///
    /// # Panics
    ///
    /// If this machine cannot make keys.
    pub fn new(kind: Kind, id: &str) -> Self {
        let random = SystemRandom::new();
        let pair = match kind {
            Kind::Ed => {
                let key = Ed25519KeyPair::generate_pkcs8(&random).expect("random numbers");
                Pair::Ed(Ed25519KeyPair::from_pkcs8(key.as_ref()).expect("a key"))
            }
            Kind::Ec => {
                let algorithm = &ECDSA_P384_SHA384_FIXED_SIGNING;
                let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("random numbers");
                Pair::Ec(Box::new(
                    EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).expect("a key"),
                ))
            }
            Kind::Rsa => {
                let lines = RSA_KEY.lines().filter(|line| !line.starts_with("-----"));
                let der = STANDARD.decode(lines.collect::<String>()).expect("base64");
                Pair::Rsa(Box::new(RsaKeyPair::from_pkcs8(&der).expect("a key")))
            }
        };
        Self {
            id: id.to_owned(),
            kind,
            pair,
        }
    }

    /// The public key, as bytes of one kind or another.
    pub fn public(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Ed(key) => key.public_key().as_ref().to_vec(),
            Pair::Ec(key) => key.public_key().as_ref().to_vec(),
            Pair::Rsa(key) => key.public_key().as_ref().to_vec(),
        }
    }

    /// The public key as a JWK.
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Ed(_) => json!({"kty": "OKP", "crv": "Ed25519", "x": encoded(&self.public())}),
            Pair::Ec(_) => {
                // 4, x, y
                let public = self.public();
                let (x, y) = public[1..].split_at(48);
                json!({"kty": "EC", "crv": "P-384", "x": encoded(x), "y": encoded(y)})
            }
            Pair::Rsa(key) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({"kty": "RSA", "n": encoded(&public.n), "e": encoded(&public.e)})
            }
        };
        jwk["kid"] = self.id.as_str().into();
        jwk["use"] = "sig".into();
        jwk["alg"] = self.kind.algorithm().into();
        jwk
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        let head = json!({"alg": self.kind.algorithm(), "kid": self.id, "typ": "at+jwt"});
        self.signed(&head, claims)
    }

    /// One whose head says anything.
    pub fn signed(&self, head: &Value, claims: &Value) -> String {
        let text = unsigned(head, claims);
        let message = text.as_bytes();
        let signature = match &self.pair {
            Pair::Ed(key) => key.sign(message).as_ref().to_vec(),
            Pair::Ec(key) => {
                let signature = key.sign(&SystemRandom::new(), message);
                signature.map(|s| s.as_ref().to_vec()).unwrap_or_default()
            }
            Pair::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                let signed = key.sign(&RSA_PKCS1_SHA384, &SystemRandom::new(), message, &mut signature);
                signed.map(|()| signature).unwrap_or_default()
            }
        };
        format!("{text}.{}", encoded(&signature))
    }
}

/// Head and claims, as they are signed.
pub fn unsigned(head: &Value, claims: &Value) -> String {
    format!(
        "{}.{}",
        encoded(head.to_string().as_bytes()),
        encoded(claims.to_string().as_bytes())
    )
}

/// Signed as HS256 has it, with any bytes as the secret.
pub fn with_a_shared_secret(secret: &[u8], head: &Value, claims: &Value) -> String {
    let text = unsigned(head, claims);
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes());
    format!("{text}.{}", encoded(signature.as_ref()))
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Seconds since 1970, by this machine's clock.
pub fn now() -> i64 {
    SystemClock.now().timestamp()
}

/// Claims of a token that holds for five minutes from now.
pub fn claims(issuer: &str, audience: &str, scopes: &str) -> Value {
    let now = now();
    json!({
        "iss": issuer, "aud": audience, "sub": "agent-of-a-test", "scope": scopes,
        "iat": now, "nbf": now, "exp": now + 300, "jti": "1",
    })
}

/// The same claims, with one of them changed; `null` leaves it out.
#[must_use]
pub fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    if let Some(members) = claims.as_object_mut() {
        if value.is_null() {
            members.remove(name);
        } else {
            members.insert(name.to_owned(), value);
        }
    }
    claims
}

/// A set of keys, as it is published.
pub fn jwks(keys: &[&SigningKey]) -> String {
    let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

#[derive(Debug, Clone)]
enum Answer {
    Body(StatusCode, String),
    /// To somewhere else.
    Redirect(String),
    /// Never.
    Silence,
}

/// The server of an issuer's keys. It ends with this value.
#[derive(Debug)]
pub struct Issuer {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
    serving: AbortHandle,
}

impl Issuer {
    /// One that publishes these keys.
    pub async fn start(keys: &[&SigningKey]) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a port")?;
        let address = listener.local_addr()?;
        let answer = Arc::new(Mutex::new(Answer::Body(StatusCode::OK, jwks(keys))));
        let asked = Arc::new(AtomicUsize::new(0));
        let router = Router::new()
            .route("/jwks", get(answered))
            .with_state((answer.clone(), asked.clone()));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await }).abort_handle();
        Ok(Self {
            address,
            answer,
            asked,
            serving,
        })
    }

    /// `iss`
    pub fn name(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the keys are.
    pub fn jwks_url(&self) -> String {
        format!("http://{}/jwks", self.address)
    }

    /// How often it was asked for them.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Publishes other keys.
    pub fn publish(&self, keys: &[&SigningKey]) {
        self.answers(200, &jwks(keys));
    }

    /// Answers with anything.
    pub fn answers(&self, status: u16, body: &str) {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        self.set(Answer::Body(status, body.to_owned()));
    }

    /// Sends whoever asks somewhere else.
    pub fn redirects(&self, to: &str) {
        self.set(Answer::Redirect(to.to_owned()));
    }

    /// Takes requests and says nothing.
    pub fn is_silent(&self) {
        self.set(Answer::Silence);
    }

    fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answered(State((answer, asked)): State<(Arc<Mutex<Answer>>, Arc<AtomicUsize>)>) -> Response {
    asked.fetch_add(1, Ordering::Relaxed);
    let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match answer {
        Answer::Body(status, body) => (status, body).into_response(),
        Answer::Redirect(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
        Answer::Silence => {
            tokio::time::sleep(Duration::from_hours(1)).await;
            StatusCode::OK.into_response()
        }
    }
}
