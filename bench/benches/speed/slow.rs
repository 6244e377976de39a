//! Connections that begin a request and do not end it, beside the load.

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

const CONNECTIONS: usize = 500;

/// Half of them stop within the head, without a secret; half within the body, with it.
pub(crate) struct Slow(Vec<TcpStream>);

impl Slow {
    pub(crate) async fn open(address: &str, authorization: &str) -> anyhow::Result<Self> {
        let mut streams = Vec::with_capacity(CONNECTIONS);
        for number in 0..CONNECTIONS {
            let mut stream = TcpStream::connect(address).await?;
            let begun = if number % 2 == 0 {
                "PUT /fhir/Patient/a HTTP/1.1\r\nHost: x\r\nX-".to_owned()
            } else {
                format!(
                    "PUT /fhir/Patient/a HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nContent-Length: 1000\r\n\r\n{{"
                )
            };
            stream.write_all(begun.as_bytes()).await?;
            streams.push(stream);
        }
        Ok(Self(streams))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}
