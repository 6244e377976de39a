//! A Deployment in small: replicas of a daemon behind the addresses of its Services.

use std::{collections::VecDeque, time::Duration};

use anyhow::Context as _;
use e2e::{balancer::Balancer, process::Daemon};

/// How long a cluster takes until nobody opens connections to a pod that leaves any more ...
const HEARD_OF: Duration = Duration::from_millis(300);
/// ... and the pod's `preStop`, which waits for that (5 s in the chart, for a cluster's machines).
const PRE_STOP: Duration = Duration::from_millis(700);
/// The pod's grace: above `daemon.shutdown_grace_seconds`.
const GRACE: Duration = Duration::from_secs(30);

/// The replicas.
pub(crate) struct Layer {
    name: &'static str,
    services: Vec<(&'static str, Balancer)>,
    pods: VecDeque<Daemon>,
    logs: Vec<String>,
}

impl Layer {
    /// None yet, behind a Service for each of the daemon's ports.
    pub(crate) async fn new(name: &'static str, ports: &[&'static str]) -> anyhow::Result<Self> {
        let mut services = Vec::new();
        for port in ports {
            services.push((*port, Balancer::start().await?));
        }
        Ok(Self {
            name,
            services,
            pods: VecDeque::new(),
            logs: Vec::new(),
        })
    }

    /// The address of a Service.
    pub(crate) fn address(&self, port: &str) -> anyhow::Result<String> {
        let service = self.services.iter().find(|(name, _)| *name == port);
        Ok(service.context("there is no such port")?.1.address())
    }

    /// A replica that is ready.
    pub(crate) fn add(&mut self, pod: Daemon) -> anyhow::Result<()> {
        for (port, service) in &self.services {
            service.add(pod.address(port)?.parse()?);
        }
        self.pods.push_back(pod);
        Ok(())
    }

    /// A new replica, which is ready, in place of the oldest one: `maxUnavailable: 0`, `maxSurge: 1`.
    pub(crate) async fn replace(&mut self, new: Daemon) -> anyhow::Result<()> {
        self.add(new)?;
        let mut old = self.pods.pop_front().context("there is a replica")?;
        // The pod is told to leave, and the cluster: the first waits for the second.
        tokio::time::sleep(HEARD_OF).await;
        for (port, service) in &self.services {
            service.remove(old.address(port)?.parse()?);
        }
        tokio::time::sleep(PRE_STOP.saturating_sub(HEARD_OF)).await;
        let status = old.terminate(GRACE).await?;
        anyhow::ensure!(status.success(), "{} ended with {status}", self.name);
        self.logs.push(old.log());
        Ok(())
    }

    /// Nobody had to be cut off, and nothing was an error.
    pub(crate) fn expect_quiet_logs(&self) -> anyhow::Result<()> {
        let logs = self.logs.iter().cloned().chain(self.pods.iter().map(Daemon::log));
        for log in logs {
            let bad = log
                .lines()
                .find(|line| line.contains("ERROR") || line.contains("grace period is over"));
            anyhow::ensure!(bad.is_none(), "{}: {}", self.name, bad.unwrap_or_default());
        }
        Ok(())
    }
}
