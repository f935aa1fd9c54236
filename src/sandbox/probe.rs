//! Whether sandboxes can be made here: by making one.

use super::spec::{Limits, Places, Spec};
use super::{Level, Owners, Standing, launch};
use std::io;
use std::path::Path;

const PARTS: [&str; 3] = ["workspace", "home", "scratch"];

/// Makes a sandbox in a folder of its own, which goes with it. Where that is refused the answer says why, and gives no
/// branch a user of its own. Blocks.
#[must_use]
pub fn probe(standing: Standing, folder: &Path, limits: &Limits) -> Standing {
    if standing.refused.is_some() || standing.level == Level::None {
        return standing;
    }
    let outcome = make(&standing, folder, limits);
    let _ = std::fs::remove_dir_all(folder);
    match outcome {
        Ok(()) => standing,
        Err(reason) => Standing { ids: None, refused: Some(reason), ..standing },
    }
}

fn make(standing: &Standing, folder: &Path, limits: &Limits) -> Result<(), String> {
    let prepare = || -> io::Result<_> {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        for part in PARTS.into_iter().chain(["home/.private"]) {
            std::fs::create_dir_all(folder.join(part))?;
        }
        Owners::new(standing.ids).settle(folder, &PARTS)
    };
    let owner = prepare().map_err(|error| {
        format!("chown: files can't be given to a user of the branch's own ({error}); see docs/isolation.md")
    })?;
    let spec = Spec {
        places: Places {
            workspace: folder.join("workspace"),
            home: folder.join("home"),
            scratch: folder.join("scratch"),
        },
        hostname: "probe".into(),
        uid: owner.uid(),
        is_read_only: false,
        has_network: false,
        is_bare: false,
        limits: *limits,
        watches_memory: false,
        image: Vec::new(),
        git_config: String::new(),
        environment: Vec::new(),
    };
    let launched = launch(&spec, None, |_| Ok(())).map_err(|failed| failed.to_string())?;
    launched.process.kill();
    launched.process.wait().map_err(|error| error.to_string())
}
