//! The unmodified npm packages of the CodeSandbox SDK against the real binary, on both databases; the scenarios are in
//! `tests/sdk/scenarios/`, the suite that is kept with the protocol's description in `tests/sdk/seed/`.

use crate::clients::{each_is_run, on_postgres_in, run_in};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk")
}

macro_rules! scenarios {
    ($($name:ident),*) => {
        mod sqlite {
            $(#[test] fn $name() { super::run_in(&super::folder(), stringify!($name), None); })*
        }
        mod postgres {
            $(#[test] fn $name() { super::on_postgres_in(&super::folder(), stringify!($name)); })*
        }

        #[test]
        fn each_scenario_is_run() {
            each_is_run(&folder(), &[$(stringify!($name)),*]);
        }
    };
}

scenarios!(
    sdk_anew,
    sdk_editors,
    sdk_editors_seen,
    sdk_fs,
    sdk_fs_views,
    sdk_watch,
    sdk_download,
    sdk_search,
    sdk_git_own,
    sdk_git_messages,
    sdk_barrier,
    sdk_output_pieces,
    sdk_shell_frames,
    sdk_lists,
    sdk_life,
    sdk_idle,
    sdk_seats,
    sdk_refusals,
    sdk_low_level,
    sdk_preview_tokens,
    sdk_seed,
    sdk_commands,
    sdk_terminals,
    sdk_secrets,
    sdk_sleep,
    sdk_idle_client,
    sdk_rights,
    sdk_socket,
    sdk_browser,
    sdk_file_frames,
    sdk_order,
    sdk_reconnect,
    sdk_table,
    sdk_setup,
    sdk_tasks,
    sdk_ports,
    sdk_system
);
