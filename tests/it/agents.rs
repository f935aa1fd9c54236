//! For servers inside a test: its own binary is not perch's, so no agent can be started; the scenarios have real ones.

use perch::base::Tasks;
use perch::sandbox::{Cgroups, Level, Limits, Standing};
use perch::session::{AgentOptions, Agents};

/// Agents that are refused.
pub(crate) fn none(tasks: &Tasks) -> Agents {
    let refused = Some("this is a test".to_owned());
    let limits = Limits {
        processes: 64,
        open_files: 1_024,
        memory_bytes: 1 << 30,
        private_bytes: 1 << 20,
        file_bytes: 1 << 30,
        cpu_percent: 100,
    };
    let options = AgentOptions {
        trusts_first_ssh: false,
        standing: Standing { level: Level::Root, ids: None, refused },
        cgroups: Cgroups::default(),
        limits,
        branch_limits: limits,
        max_branch_bytes: u64::MAX,
        image: Vec::new(),
    };
    Agents::new(options, tasks.clone())
}

/// Everybody may ask as often as they like.
pub(crate) fn unlimited() -> perch::http::Limits {
    let bounds =
        perch::http::Bounds { per_address: 0, per_token: 0, requests: 1_000, branch_requests: 1_000 };
    perch::http::Limits::new(bounds)
}
