//! A Service of Kubernetes in small: one address of TCP before all that are ready. Each new connection goes to the next of them, and stays with it; an endpoint that is taken out
//! gets no new connections, and keeps those that it has.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The address. It is gone when this is dropped.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    endpoints: Arc<Mutex<Vec<SocketAddr>>>,
    task: JoinHandle<()>,
}

impl Balancer {
    /// Without endpoints yet: connections are closed at once.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let endpoints = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(balance(listener, endpoints.clone()));
        Ok(Self {
            address,
            endpoints,
            task,
        })
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// An endpoint that is ready.
    pub fn add(&self, endpoint: SocketAddr) {
        self.locked().push(endpoint);
    }

    /// One that is to get no new connections.
    pub fn remove(&self, endpoint: SocketAddr) {
        self.locked().retain(|known| *known != endpoint);
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Vec<SocketAddr>> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn balance(listener: TcpListener, endpoints: Arc<Mutex<Vec<SocketAddr>>>) {
    let next = AtomicUsize::new(0);
    while let Ok((mut client, _)) = listener.accept().await {
        let endpoint = {
            let endpoints = endpoints.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = next.fetch_add(1, Ordering::Relaxed) % endpoints.len().max(1);
            endpoints.get(turn).copied()
        };
        let Some(endpoint) = endpoint else { continue };
        tokio::spawn(async move {
            let mut server = TcpStream::connect(endpoint).await?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await
        });
    }
}
