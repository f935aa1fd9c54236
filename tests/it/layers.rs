//! Dependencies between modules point one way.

use std::fs;
use std::path::{Path, PathBuf};

/// Each module uses only modules after it.
const ORDER: [&str; 17] = [
    "admin",
    "server",
    "config",
    "compat",
    "http",
    "session",
    "branch",
    "audit",
    "agent",
    "egress",
    "store",
    "git",
    "workspace",
    "sandbox",
    "crdt",
    "traces",
    "base",
];

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

fn rank(module: &str) -> Option<usize> {
    ORDER.iter().position(|name| *name == module)
}

/// The modules a source text names as `crate::module`, also inside `use crate::{a, b}`.
fn used(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            let mut at_start = true;
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        names.push(std::mem::take(&mut word));
                        at_start = true;
                    }
                    c if depth == 0 && at_start && (c.is_alphanumeric() || c == '_') => word.push(c),
                    c if c.is_whitespace() => {}
                    _ => at_start = false,
                }
            }
            names.push(word);
        } else {
            names.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    names
}

#[test]
fn modules_use_only_modules_below_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let mut wrong = Vec::new();
    let mut edges = 0;
    for file in files {
        let relative = file.strip_prefix(&src).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_string_lossy();
        let module = first.trim_end_matches(".rs").to_owned();
        let Some(own) = rank(&module) else { continue };
        for name in used(&fs::read_to_string(&file).unwrap()) {
            if let Some(other) = rank(&name) {
                edges += 1;
                if other < own {
                    wrong.push(format!("{} uses crate::{name}", relative.display()));
                }
            }
        }
    }
    assert!(edges > 0, "the reader of `use crate::` found nothing");
    assert!(wrong.is_empty(), "upward edges:\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_sees_plain_and_grouped_uses() {
    let text = "use crate::http::x; use crate::{server, base::{Tasks, Clock}, store::Db};";
    assert_eq!(used(text), ["http", "server", "base", "store"]);
}
