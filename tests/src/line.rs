//! A line of TCP to a server, which a test can cut, or let hang as a network does, or a machine that stands still.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Good,
    Cut,
    Hung,
}

/// The line. It is gone when this is dropped, with all its connections.
#[derive(Debug)]
pub struct Line {
    address: SocketAddr,
    state: watch::Sender<Is>,
    task: JoinHandle<()>,
}

impl Line {
    /// A line to a server, on a free port of 127.0.0.1.
    pub async fn to(server: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (state, told) = watch::channel(Is::Good);
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((client, _)) => {
                        tokio::spawn(carry(client, server, told.clone()));
                    }
                    // Of one connection, or of files that are short for a moment.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        Ok(Self { address, state, task })
    }

    /// Where clients reach the server by it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks all connections off, and each new one: the server is gone.
    pub fn cut(&self) {
        self.state.send_replace(Is::Cut);
    }

    /// Takes connections and bytes, and passes nothing on, either way: the server stands still.
    pub fn hang(&self) {
        self.state.send_replace(Is::Hung);
    }

    /// Is as it was. What was sent while it hung arrives now.
    pub fn mend(&self) {
        self.state.send_replace(Is::Good);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

/// One connection.
async fn carry(client: TcpStream, server: SocketAddr, mut state: watch::Receiver<Is>) {
    let mut cut = state.clone();
    let carried = async {
        state.wait_for(|state| *state != Is::Hung).await.ok()?;
        let server = TcpStream::connect(server).await.ok()?;
        client.set_nodelay(true).ok()?;
        server.set_nodelay(true).ok()?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::join!(
            pass(from_client, to_server, state.clone()),
            pass(from_server, to_client, state)
        );
        Some(())
    };
    tokio::select! {
        _ = carried => {}
        _ = cut.wait_for(|state| *state == Is::Cut) => {}
    }
}

/// One direction, to its end.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<Is>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(length) = from.read(&mut buffer).await else {
            return;
        };
        if state.wait_for(|state| *state != Is::Hung).await.is_err() {
            return;
        }
        if length == 0 {
            let _gone = to.shutdown().await;
            return;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
