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
        standing: Standing { level: Level::Root, ids: None, refused },
        cgroups: Cgroups::default(),
        limits,
        branch_limits: limits,
        max_branch_bytes: u64::MAX,
        image: Vec::new(),
    };
    Agents::new(options, tasks.clone())
}
