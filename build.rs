//! Builds the page in `static/` with npm and lists its files for `src/http/page.rs`.
//!
//! - `PERCH_UI=off` leaves the page out, `PERCH_UI_DIST=folder` takes one that was built elsewhere.
//! - Without npm, or when npm fails, perch is built all the same: its API works, `/` says why there is no page, and so
//!   do a warning of the build and one at start.
//!
//! All happens in a copy in cargo's folder; `node_modules` stays there, and npm installs only when the lock changed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, io};

/// What the page is made from; nothing else in `static/` is looked at.
const SOURCES: [&str; 10] = [
    ".npmrc",
    "build.mjs",
    "client",
    "favicon.svg",
    "index.html",
    "package-lock.json",
    "package.json",
    "src",
    "tsconfig.client.json",
    "tsconfig.json",
];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=PERCH_UI");
    println!("cargo::rerun-if-env-changed=PERCH_UI_DIST");
    println!("cargo::rerun-if-changed=build.rs");
    for source in SOURCES {
        println!("cargo::rerun-if-changed=static/{source}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let ui = out.join("ui");
    let missing = match page(&out, &ui) {
        Ok(()) => None,
        Err(Missing::Wanted(reason)) => Some(reason),
        Err(Missing::Failed(reason)) => {
            for line in reason.lines() {
                println!("cargo::warning={line}");
            }
            println!(
                "cargo::warning=perch is built without its page; the API works. PERCH_UI=off says this is meant."
            );
            // A file that never is there: the next build tries again, so that installing npm is all there is to do.
            println!("cargo::rerun-if-changed={}", out.join("no-page").display());
            Some(reason)
        }
    };
    let files = if missing.is_some() { Vec::new() } else { files(&ui)? };
    fs::write(out.join("page_files.rs"), listing(&ui, &files, missing.as_deref())?)
}

/// Why there is no page.
enum Missing {
    Wanted(String),
    Failed(String),
}

fn page(out: &Path, ui: &Path) -> Result<(), Missing> {
    if env::var_os("PERCH_UI").is_some_and(|value| value == "off") {
        return Err(Missing::Wanted("it was built with PERCH_UI=off".into()));
    }
    if ui.is_dir() {
        fs::remove_dir_all(ui).map_err(failed("can't clear the folder of the page"))?;
    }
    if let Some(dist) = env::var_os("PERCH_UI_DIST") {
        let dist = PathBuf::from(dist);
        println!("cargo::rerun-if-changed={}", dist.display());
        if !dist.join("index.html").is_file() {
            return Err(Missing::Failed("PERCH_UI_DIST names a folder without index.html".into()));
        }
        return copy(&dist, ui).map_err(failed("can't copy PERCH_UI_DIST"));
    }
    let work = out.join("static");
    let copied = SOURCES.iter().try_for_each(|source| {
        let (from, to) = (Path::new("static").join(source), work.join(source));
        if to.is_dir() {
            fs::remove_dir_all(&to)?;
        }
        copy(&from, &to)
    });
    copied.map_err(failed("can't copy static/"))?;

    let lock = fs::read(work.join("package-lock.json")).map_err(failed("can't read the lock file"))?;
    let installed = work.join("node_modules/.perch-lock");
    if fs::read(&installed).ok().as_ref() != Some(&lock) {
        npm(&work, &["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"])?;
        fs::write(&installed, &lock).map_err(failed("can't note the installed lock file"))?;
    }
    let ui = ui.to_str().ok_or_else(|| Missing::Failed("the build folder's name is not UTF-8".into()))?;
    npm(&work, &["run", "build", "--", ui])
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> Missing {
    move |error| Missing::Failed(format!("{what}: {error}"))
}

fn npm(work: &Path, arguments: &[&str]) -> Result<(), Missing> {
    let run = format!("npm {}", arguments[0]);
    let output = Command::new("npm").args(arguments).current_dir(work).stdin(Stdio::null()).output();
    let output = output.map_err(|error| {
        let cure =
            "install Node.js 20 or newer with npm (Debian: apt-get install nodejs npm) and build again";
        Missing::Failed(format!("npm can't be started ({error}): {cure}"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).take(12).collect();
    let cure = "see that npm reaches its registry, or build static/ elsewhere and name it with PERCH_UI_DIST";
    Err(Missing::Failed(format!("`{run}` failed: {cure}\n{}", last.join("\n"))))
}

/// Copies a file, or a folder with all in it.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(from, to).map(drop)
}

/// The files that are served, relative to the page's folder: the index and what lies in `assets/` and `client/`.
fn files(ui: &Path) -> io::Result<Vec<String>> {
    let mut files = vec!["index.html".to_owned()];
    for folder in ["assets", "client"] {
        for entry in fs::read_dir(ui.join(folder))? {
            let name =
                entry?.file_name().into_string().map_err(|_| io::Error::other("a name that is not UTF-8"))?;
            if Path::new(&name).extension().is_none_or(|extension| extension != "gz") {
                files.push(format!("{folder}/{name}"));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Rust text: an array of `page::File`, and why it is empty.
fn listing(ui: &Path, files: &[String], missing: Option<&str>) -> io::Result<String> {
    let include = |path: PathBuf| {
        let path = path.to_str().ok_or_else(|| io::Error::other("the build folder's name is not UTF-8"))?;
        Ok::<_, io::Error>(format!("include_bytes!({path:?})"))
    };
    let mut text = format!("const MISSING: Option<&str> = {missing:?};\nconst FILES: &[File] = &[\n");
    for file in files {
        let plain = include(ui.join(file))?;
        let gzip = ui.join(format!("{file}.gz"));
        let gzip = if gzip.is_file() { format!("Some({})", include(gzip)?) } else { "None".into() };
        let _ = writeln!(text, "    File {{ path: {file:?}, plain: {plain}, gzip: {gzip} }},");
    }
    text.push_str("];\n");
    Ok(text)
}
