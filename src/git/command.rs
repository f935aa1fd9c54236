//! A command that runs nothing which the repository chose.
//!
//! Whoever sits on the branch may write its `.git`, and whoever made a repository that is cloned chose what is in its
//! attributes: hooks, filters, drivers, helpers, proxies, other work trees. A session's own `~/.private` is at hand where git
//! runs, so none of that is started: what has one name is set on each command line, which outranks files, and what is named
//! by the repository is listed first (`git config --list`) and overridden name by name, see [`neutral`].

use crate::workspace::RelPath;
use std::fmt;

/// Set for each command, above all files.
const CONFIG: [(&str, &str); 23] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.bare", "false"),
    ("core.gitProxy", ""),
    ("core.alternateRefsCommand", ""),
    ("core.quotePath", "false"),
    ("color.ui", "false"),
    ("advice.detachedHead", "false"),
    ("log.showSignature", "false"),
    ("commit.gpgSign", "false"),
    ("tag.gpgSign", "false"),
    ("push.gpgSign", "false"),
    ("merge.verifySignatures", "false"),
    ("submodule.recurse", "false"),
    ("diff.orderFile", "/dev/null"),
    ("diff.ignoreSubmodules", "dirty"),
    ("fetch.recurseSubmodules", "false"),
    ("push.recurseSubmodules", "no"),
    ("safe.bareRepository", "explicit"),
    ("credential.helper", ""),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("http.sslVerify", "true"),
];
/// Protocols that may be spoken to remotes; `ext`, `fd` and `file` are not among them.
const PROTOCOLS: &str = "https:http:ssh";
/// Bytes of one name of a revision, branch, tag or remote.
pub(super) const MAX_NAME: usize = 1_024;

/// Text that git would not take as what it is meant to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no name of a commit, branch, tag or remote")]
pub struct BadName(pub String);

/// Names a commit, as `HEAD~2`, `main`, `v1.0` or a hash. It is never taken for an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision(String);

impl Revision {
    /// # Errors
    /// [`BadName`] for what begins with `-`, has spaces or control characters, or `:` and `..`, which would name other
    /// things.
    pub fn new(text: &str) -> Result<Self, BadName> {
        let is_bad = text.is_empty()
            || text.len() > MAX_NAME
            || text.starts_with('-')
            || text.contains("..")
            || text.contains(|c: char| {
                c.is_control() || c.is_whitespace() || matches!(c, ':' | '\\' | '?' | '*' | '[')
            });
        if is_bad { Err(BadName(text.chars().take(100).collect())) } else { Ok(Self(text.to_owned())) }
    }

    /// What was checked by stricter rules.
    pub(super) fn checked(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who a commit is by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Shown to people.
    pub name: String,
    /// The address.
    pub email: String,
}

/// A git command. `Debug` shows no more than which one.
#[derive(Clone)]
pub struct Command {
    name: &'static str,
    arguments: Vec<String>,
    config: Vec<(String, String)>,
    env: Vec<(String, String)>,
    paths: Option<Vec<String>>,
    input: Vec<u8>,
    also: Option<i32>,
    has_magic: bool,
    is_cut: bool,
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Command {
    /// `git NAME`.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        let (arguments, config, env) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            name,
            arguments,
            config,
            env,
            paths: None,
            input: Vec::new(),
            also: None,
            has_magic: false,
            is_cut: false,
        }
    }

    /// Which one it is.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Adds an option. Never what a caller chose: that is a [`Revision`], or beneath [`Command::paths`].
    #[must_use]
    pub fn option(mut self, option: impl Into<String>) -> Self {
        self.arguments.push(option.into());
        self
    }

    /// Adds options.
    #[must_use]
    pub fn options<'a>(mut self, options: impl IntoIterator<Item = &'a str>) -> Self {
        self.arguments.extend(options.into_iter().map(str::to_owned));
        self
    }

    /// Adds a revision. Options come before.
    #[must_use]
    pub fn revision(mut self, revision: &Revision) -> Self {
        self.arguments.push(revision.0.clone());
        self
    }

    /// Names files and folders, each meant literally. Nothing comes after them.
    #[must_use]
    pub fn paths<'a>(mut self, paths: impl IntoIterator<Item = &'a RelPath>) -> Self {
        self.paths = Some(paths.into_iter().map(ToString::to_string).collect());
        self
    }

    /// What it reads.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// For a command that gives pathspecs with magic in them to others that it runs. None are taken from callers.
    #[must_use]
    pub fn magic(mut self) -> Self {
        self.has_magic = true;
        self
    }

    /// Takes this exit code for a success too.
    #[must_use]
    pub fn also(mut self, code: i32) -> Self {
        self.also = Some(code);
        self
    }

    /// Of an output that is too large the beginning is enough.
    #[must_use]
    pub fn cut(mut self) -> Self {
        self.is_cut = true;
        self
    }

    /// Whether it is.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Whether it has done what it was to do.
    #[must_use]
    pub fn is_success(&self, code: i32) -> bool {
        code == 0 || self.also == Some(code)
    }

    /// A setting for this command alone, above all others.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.push((name.into(), value.into()));
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Who makes commits with it.
    #[must_use]
    pub fn by(self, identity: &Identity) -> Self {
        let Identity { name, email } = identity;
        self.env("GIT_AUTHOR_NAME", name)
            .env("GIT_AUTHOR_EMAIL", email)
            .env("GIT_COMMITTER_NAME", name)
            .env("GIT_COMMITTER_EMAIL", email)
    }

    /// What it reads, taken out.
    pub fn take_input(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.input)
    }

    /// Program and arguments, to be run at the root of the work tree.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        let literal = if self.has_magic { "--no-literal-pathspecs" } else { "--literal-pathspecs" };
        let mut argv: Vec<String> = ["git", "--no-pager", literal].map(str::to_owned).into();
        argv.push(self.name.to_owned());
        argv.extend(self.arguments.iter().cloned());
        if let Some(paths) = &self.paths {
            argv.push("--".to_owned());
            argv.extend(paths.iter().cloned());
        }
        argv
    }

    /// Its environment, with `neutral` settings for what the repository names.
    #[must_use]
    pub fn environment(&self, neutral: &[(String, String)]) -> Vec<(String, String)> {
        let fixed = CONFIG.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let config: Vec<_> =
            fixed.chain(neutral.iter().cloned()).chain(self.config.iter().cloned()).collect();
        let mut env: Vec<(String, String)> = [
            ("GIT_DIR", ".git"),
            ("GIT_WORK_TREE", "."),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            // The session's own lies in its `~/.private`, which most commands do not reach.
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", "/bin/false"),
            ("SSH_ASKPASS", "/bin/false"),
            ("GIT_EDITOR", "true"),
            ("GIT_SEQUENCE_EDITOR", "true"),
            ("GIT_SSH_COMMAND", "/bin/false"),
            ("GIT_ALLOW_PROTOCOL", PROTOCOLS),
            ("GIT_OPTIONAL_LOCKS", "0"),
            // Whatever the session's own environment asks for: what git says is read, and no token is to be in it.
            ("GIT_TRACE", "0"),
            ("GIT_TRACE2", "0"),
            ("GIT_TRACE_CURL", "0"),
            ("GIT_TRACE_PACKET", "0"),
            ("GIT_TRACE_SETUP", "0"),
            ("GIT_TRACE_REDACT", "1"),
            ("LC_ALL", "C.UTF-8"),
            ("LANGUAGE", "C"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        env.push(("GIT_CONFIG_COUNT".to_owned(), config.len().to_string()));
        for (n, (name, value)) in config.into_iter().enumerate() {
            env.push((format!("GIT_CONFIG_KEY_{n}"), name));
            env.push((format!("GIT_CONFIG_VALUE_{n}"), value));
        }
        env.extend(self.env.iter().cloned());
        env
    }
}

/// Lists what [`neutral`] reads.
impl Command {
    /// `git config --list` of names, with their scopes.
    #[must_use]
    pub fn list_config() -> Self {
        Self::new("config").options(["--list", "--null", "--show-scope", "--name-only", "--includes"])
    }
}

/// Scope and name of each setting.
fn settings(listed: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut fields = listed.split(|byte| *byte == 0);
    std::iter::from_fn(move || Some((fields.next()?, fields.next()?)))
}

/// Whether some of the settings that [`Command::list_config`] printed are a repository's. Git reads none where it finds no
/// repository, and makes each with some.
#[must_use]
pub fn is_of_repository(listed: &[u8]) -> bool {
    settings(listed).any(|(scope, _)| scope == b"local")
}

/// Settings that take the effect of those which the repository names: its filters, drivers, helpers and proxies. `listed` is
/// what [`Command::list_config`] printed. Names that can't be set from outside are left out; git takes none such.
#[must_use]
pub fn neutral(listed: &[u8]) -> Vec<(String, String)> {
    let mut neutral = Vec::new();
    for (scope, name) in settings(listed) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        if !matches!(scope, b"local" | b"worktree") {
            continue;
        }
        let Some((section, rest)) = name.split_once('.') else { continue };
        // Section and key come in lower case; what stands between is as it was written.
        let Some((_, key)) = rest.rsplit_once('.') else { continue };
        let value = match (section, key) {
            ("filter", "clean" | "smudge" | "process")
            // Options of merges can name files to read.
            | ("branch", "mergeoptions")
            | ("credential", "helper")
            | (
                "http",
                "proxy" | "extraheader" | "cookiefile" | "sslcert" | "sslkey" | "sslcainfo" | "sslcapath",
            )
            | ("remote", "proxy" | "vcs" | "uploadpack" | "receivepack" | "serveroption")
            | ("trailer", "command" | "cmd")
            | ("gpg", "program") => "",
            // Drivers of diffs are never asked for: `--no-ext-diff` and `--no-textconv`.
            ("filter", "required") | ("http", "savecookies") | ("diff", "command" | "textconv") => "false",
            ("http", "sslverify") => "true",
            // What git does where no driver is named.
            ("merge", "driver") => "git merge-file --marker-size=%L %A %O %B",
            _ => continue,
        };
        neutral.push((name.to_owned(), value.to_owned()));
    }
    neutral
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_no_option_and_no_range() {
        for good in ["HEAD", "HEAD~2", "main", "feature/x", "v1.0^{commit}", "stash@{0}", "@"] {
            assert!(Revision::new(good).is_ok(), "{good}");
        }
        for bad in
            ["", "-x", "--upload-pack=x", "a..b", "HEAD:secret", ":/text", "a b", "a\nb", "a\0", "x*", "\\"]
        {
            assert!(Revision::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_come_last_and_are_no_options() {
        let path: RelPath = "-p".parse().unwrap();
        let command = Command::new("add").option("--all").paths([&path]);
        assert_eq!(command.argv(), ["git", "--no-pager", "--literal-pathspecs", "add", "--all", "--", "-p"]);
    }

    #[test]
    fn what_the_repository_names_is_overridden_and_the_users_own_is_not() {
        let listed = b"local\0filter.Evil.x.clean\0global\0filter.lfs.clean\0worktree\0merge.evil.driver\0local\0core.bare\0\
            local\0credential.https://host.helper\0local\0user.name\0local\0http.proxy\0local\0http.https://h/.proxy\0";
        let settings = neutral(listed);
        let names: Vec<_> = settings.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "filter.Evil.x.clean",
                "merge.evil.driver",
                "credential.https://host.helper",
                "http.https://h/.proxy"
            ]
        );
        let env = Command::new("status").environment(&settings);
        let count: usize =
            env.iter().find(|(name, _)| name == "GIT_CONFIG_COUNT").unwrap().1.parse().unwrap();
        assert_eq!(count, CONFIG.len() + settings.len());
    }

    proptest::proptest! {
        #[test]
        fn any_listing_is_read(listed in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let _ = neutral(&listed);
        }
    }
}
