//! What the server's process costs, as the kernel says.

use std::fs;
use std::time::Duration;

/// A process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server(pub(crate) u32);

impl Server {
    /// Processor time, its ended threads included; steps of 10 ms.
    pub(crate) fn cpu(self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).expect("the server runs");
        let after = &stat[stat.rfind(')').expect("a name") + 2..];
        let fields: Vec<&str> = after.split(' ').collect();
        let ticks: u64 = [11, 12].iter().map(|at| fields[*at].parse::<u64>().expect("ticks")).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Processor time since a moment at which it had used `before`.
    pub(crate) fn cpu_since(self, before: Duration) -> Duration {
        self.cpu().saturating_sub(before)
    }

    /// Resident bytes.
    pub(crate) fn resident(self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).expect("the server runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("a number") * 1024.0
    }

    /// Resident bytes once they stay.
    pub(crate) async fn settled(self) -> f64 {
        let mut last = 0.0_f64;
        for _ in 0..20 {
            let now = self.resident();
            if (now - last).abs() < 64.0 * 1024.0 {
                return now;
            }
            last = now;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        last
    }
}
