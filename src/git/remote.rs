//! Remotes: their names, URLs and commands.
//!
//! What talks to a remote runs in a repository of its own (`Outside` in the session's module), so it is given a URL and
//! references by name, never the name of a remote in a configuration that others may write.

use super::branches::BranchName;
use super::{Command, Identity};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use utoipa::ToSchema;

/// Bytes of a URL.
const MAX_URL: usize = 2_048;
/// Bytes of a name.
const MAX_NAME: usize = 200;

/// What is no remote's name or URL, no branch or no commit, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRemote {
    /// A URL that is not spoken to.
    #[error("{0}")]
    Url(&'static str),
    /// A name.
    #[error("{0}")]
    Name(&'static str),
}

/// A remote's name: 1 to 200 of `A-Z a-z 0-9 . _ -`, the first a letter, digit or `_`, without `..` and not ending in `.lock`
/// or `.`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteName(String);

impl RemoteName {
    /// # Errors
    /// [`BadRemote::Name`].
    pub fn new(text: &str) -> Result<Self, BadRemote> {
        let may = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_good = (1..=MAX_NAME).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && text.chars().all(may)
            && !text.contains("..")
            && !text.ends_with('.')
            && text.strip_suffix(".lock").is_none();
        if is_good {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadRemote::Name(
                "a remote's name is 1 to 200 of A-Z a-z 0-9 . _ -, the first a letter, digit or _",
            ))
        }
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl BranchName {
    /// `refs/heads/…`.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("refs/heads/{self}")
    }

    /// `refs/remotes/NAME/…`.
    #[must_use]
    pub fn tracking(&self, remote: &RemoteName) -> String {
        format!("refs/remotes/{}/{self}", remote.0)
    }
}

/// A commit's full hash, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Oid(String);

impl Oid {
    /// # Errors
    /// [`BadRemote::Name`].
    pub fn new(text: &str) -> Result<Self, BadRemote> {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if is_hex && matches!(text.len(), 40 | 64) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadRemote::Name("a commit is named by its whole hash here, 40 or 64 of 0-9 a-f"))
        }
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a remote is: `https://…`, `http://…`, `ssh://…` or `user@host:path`. It never holds a password, and a user with
/// ssh only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteUrl {
    text: String,
    is_ssh: bool,
}

impl RemoteUrl {
    /// A URL as somebody gives it.
    ///
    /// # Errors
    /// [`BadRemote::Url`]; one with a user or password too, with what to do instead.
    pub fn new(text: &str) -> Result<Self, BadRemote> {
        let bad = |why| Err(BadRemote::Url(why));
        if text.len() > MAX_URL || !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return bad("a remote's URL is visible ASCII without backslashes, at most 2,048 characters");
        }
        let is_ssh = if let Some(rest) =
            text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))
        {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            if authority.contains('@') {
                return bad(
                    "a user or token in a remote's URL would be seen by everybody on the branch; give it by \
                    PUT …/sessions/{session}/git-credentials",
                );
            }
            if !is_host(authority) {
                return bad("the URL names no host");
            }
            false
        } else if let Some(rest) = text.strip_prefix("ssh://") {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            if path.is_empty() || !is_ssh_target(authority) {
                return bad("an SSH URL is ssh://user@host:port/path, without a password");
            }
            true
        } else {
            let Some((authority, path)) = text.split_once(':') else {
                return bad("use https://, http://, ssh:// or user@host:path");
            };
            // `name::…` starts a helper of that name.
            if path.is_empty()
                || path.starts_with([':', '-'])
                || path.starts_with("//")
                || !is_ssh_target(authority)
            {
                return bad("use https://, http://, ssh:// or user@host:path");
            }
            true
        };
        Ok(Self { text: text.to_owned(), is_ssh })
    }

    /// A URL as the repository's configuration has it: a user or password that a shell put into one is not used.
    ///
    /// # Errors
    /// [`BadRemote::Url`].
    pub fn of_config(text: &str) -> Result<Self, BadRemote> {
        match text.split_once("://") {
            Some((scheme @ ("https" | "http"), rest)) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                let host = rest[..end].rfind('@').map_or(0, |at| at + 1);
                Self::new(&format!("{scheme}://{}", &rest[host..]))
            }
            _ => Self::new(text),
        }
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether ssh speaks to it.
    #[must_use]
    pub fn is_ssh(&self) -> bool {
        self.is_ssh
    }
}

/// `host`, `host:port`, `[address]:port`.
fn is_host(authority: &str) -> bool {
    let (name, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("x", port),
        Some(_) => return false,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|n| n > 0)
    };
    let may = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(may)
        && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// `host` or `user@host`.
fn is_ssh_target(authority: &str) -> bool {
    let (user, host) = authority.split_once('@').unwrap_or(("x", authority));
    let may = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    user.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && user.chars().all(may)
        && is_host(host)
}

/// A remote, as the repository's configuration has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Remote {
    /// Its name.
    pub name: String,
    /// Where it is fetched from; without the user and password that a shell may have put there.
    pub url: String,
    /// Where it is pushed to, if that is elsewhere.
    pub push_url: Option<String>,
    /// Whether perch speaks to it; not to paths, `git://` and helpers.
    pub is_usable: bool,
}

/// Lists what [`Remote::parse`] reads.
#[must_use]
pub fn list_remotes() -> Command {
    Command::new("config").options(["--null", "--includes", "--get-regexp", r"^remote\..*\.(url|pushurl)$"])
}

impl Remote {
    /// Reads what [`list_remotes`] printed. Of several URLs the first counts.
    #[must_use]
    pub fn parse(printed: &[u8]) -> Vec<Self> {
        let mut remotes: Vec<Self> = Vec::new();
        for record in printed.split(|byte| *byte == 0) {
            let record = String::from_utf8_lossy(record);
            let Some((key, url)) = record.split_once('\n') else { continue };
            let Some((name, key)) = key.strip_prefix("remote.").and_then(|rest| rest.rsplit_once('.')) else {
                continue;
            };
            let at = remotes.iter().position(|one| one.name == name).unwrap_or_else(|| {
                remotes.push(Self { name: name.to_owned(), ..Self::default() });
                remotes.len() - 1
            });
            let shown = RemoteUrl::of_config(url).map_or_else(|_| shown(url), |url| url.text);
            match key {
                "url" if remotes[at].url.is_empty() => remotes[at].url = shown,
                "pushurl" if remotes[at].push_url.is_none() => remotes[at].push_url = Some(shown),
                _ => {}
            }
        }
        for one in &mut remotes {
            one.is_usable = RemoteName::new(&one.name).is_ok()
                && RemoteUrl::new(&one.url).is_ok()
                && one.push_url.as_deref().is_none_or(|url| RemoteUrl::new(url).is_ok());
        }
        remotes
    }
}

/// A URL that perch does not speak to, for people to look at.
fn shown(url: &str) -> String {
    let clean: String = url.chars().filter(|c| !c.is_control()).take(MAX_URL).collect();
    super::failure::without_users(&clean)
}

/// References and what they stand at.
pub type Tips = BTreeMap<String, Oid>;

/// Lists branches, tags and what is known of remotes.
#[must_use]
pub fn list_refs() -> Command {
    let options = ["--format=%(objectname) %(refname) %(symref)", "refs/heads", "refs/tags", "refs/remotes"];
    Command::new("for-each-ref").options(options)
}

/// Reads what [`list_refs`] printed. References to references are left out.
#[must_use]
pub fn parse_refs(printed: &[u8]) -> Tips {
    let lines = printed.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let refs = lines.filter_map(|line| {
        let mut fields = line.split(' ');
        let (oid, name, link) = (fields.next()?, fields.next()?, fields.next()?);
        (link.is_empty() && name.starts_with("refs/")).then_some(())?;
        Some((name.to_owned(), Oid::new(oid).ok()?))
    });
    refs.collect()
}

/// The same as a `packed-refs` file.
#[must_use]
pub fn packed(refs: &Tips) -> Vec<u8> {
    refs.iter().flat_map(|(name, oid)| format!("{oid} {name}\n").into_bytes()).collect()
}

/// A reference that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Update {
    /// Its full name.
    pub name: String,
    /// Where it stood, if it was there.
    #[schema(value_type = Option<String>)]
    pub from: Option<Oid>,
    /// Where it stands, if it is there.
    #[schema(value_type = Option<String>)]
    pub to: Option<Oid>,
}

impl Update {
    /// What a fetch from `remote` changed: its branches, and tags that are new.
    #[must_use]
    pub fn between(before: &Tips, after: &Tips, remote: &RemoteName) -> Vec<Self> {
        let beneath = format!("refs/remotes/{}/", remote.0);
        let head = format!("{beneath}HEAD");
        let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
        let updates = names.filter_map(|name| {
            let (from, to) = (before.get(name).cloned(), after.get(name).cloned());
            let is_its = (name.starts_with(&beneath) && *name != head)
                || (name.starts_with("refs/tags/") && from.is_none());
            (is_its && from != to).then(|| Self { name: name.clone(), from, to })
        });
        updates.collect()
    }
}

/// Commands that make a repository's references so; to be run in their order. What goes, goes first, since a new name may
/// lie beneath it.
#[must_use]
pub fn update_refs(updates: &[Update]) -> Vec<Command> {
    let (mut gone, mut new) = (Vec::new(), Vec::new());
    for Update { name, from, to } in updates {
        match to {
            None => gone.extend(format!("delete {name}\0\0").into_bytes()),
            // Somebody's tag of the same name, made meanwhile, is not moved.
            Some(to) if from.is_none() && name.starts_with("refs/tags/") => {
                new.extend(format!("create {name}\0{to}\0").into_bytes());
            }
            Some(to) => new.extend(format!("update {name}\0{to}\0\0").into_bytes()),
        }
    }
    let command = || Command::new("update-ref").options(["--no-deref", "-m", "remote", "--stdin", "-z"]);
    [gone, new].into_iter().filter(|input| !input.is_empty()).map(|input| command().input(input)).collect()
}

/// Fetches all branches of a remote, and tags of what comes with them.
#[must_use]
pub fn fetch(url: &RemoteUrl, remote: &RemoteName, prunes: bool) -> Command {
    Command::new("fetch")
        .options([
            "--progress",
            "--no-recurse-submodules",
            "--no-auto-maintenance",
            "--no-prune-tags",
            if prunes { "--prune" } else { "--no-prune" },
            "--end-of-options",
        ])
        .option(&url.text)
        .option(format!("+refs/heads/*:refs/remotes/{}/*", remote.0))
}

/// Pushes a commit to a branch of a remote. `lease`: whatever is there is replaced, if it is this.
#[must_use]
pub fn push(url: &RemoteUrl, commit: &Oid, branch: &BranchName, lease: Option<&Oid>, tags: bool) -> Command {
    let to = branch.reference();
    let mut command = Command::new("push").options([
        "--progress",
        "--porcelain",
        "--no-verify",
        "--no-recurse-submodules",
        "--no-signed",
    ]);
    if let Some(lease) = lease {
        command = command.option(format!("--force-with-lease={to}:{lease}"));
    }
    command = command.option("--end-of-options").option(&url.text).option(format!("{commit}:{to}"));
    if tags { command.option("refs/tags/*:refs/tags/*") } else { command }
}

/// References at the remote that `git push --porcelain` says it changed; full names.
#[must_use]
pub fn pushed(printed: &[u8]) -> Vec<String> {
    let printed = String::from_utf8_lossy(printed);
    let lines = printed.lines().filter_map(|line| {
        let mut fields = line.split('\t');
        let (flag, names, _) = (fields.next()?, fields.next()?, fields.next()?);
        let (_, to) = names.split_once(':')?;
        matches!(flag, " " | "+" | "*").then(|| to.to_owned())
    });
    lines.collect()
}

/// What a pull does with what it fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Goes forward; refused where the histories have grown apart.
    #[default]
    FfOnly,
    /// Goes forward, or makes a merge.
    Merge,
    /// Makes one's own commits anew on top.
    Rebase,
}

/// Takes a fetched commit into the checked out branch `into`. `text` is a merge's message.
#[must_use]
pub fn integrate(how: How, commit: &Oid, into: &BranchName, by: Option<&Identity>, text: &str) -> Command {
    let command = match how {
        How::FfOnly => Command::new("merge").option("--ff-only"),
        How::Merge => Command::new("merge")
            .options(["--ff", "--commit", "--no-edit", "--strategy=ort"])
            .option(format!("--message={text}")),
        // The other backend keeps its steps in `.git`, where whoever sits on the branch may write some that run programs.
        How::Rebase => Command::new("rebase")
            .options(["--apply", "--no-fork-point", "--no-verify"])
            .config("rebase.updateRefs", "false")
            .config("rebase.autoSquash", "false"),
    };
    let command = match how {
        How::Rebase => command,
        How::FfOnly | How::Merge => command.option("--no-squash"),
    };
    let command = command.options(["--no-stat", "--no-autostash", "--no-gpg-sign"]).option(commit.as_str());
    // They are read from a configuration that others may write, and can name files.
    let command = command.config(format!("branch.{into}.mergeOptions"), "");
    match (how, by) {
        // The authors of commits that are made anew stay.
        (How::Rebase, Some(Identity { name, email })) => {
            command.env("GIT_COMMITTER_NAME", name).env("GIT_COMMITTER_EMAIL", email)
        }
        (_, Some(identity)) => command.by(identity),
        (_, None) => command,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_hold_secrets_or_start_something_are_refused() {
        for good in [
            "https://git.example.org/team/a.git",
            "http://127.0.0.1:8080/a.git",
            "https://[::1]:8443/a",
            "ssh://git@git.example.org:22/a.git",
            "ssh://git.example.org/~ann/a",
            "git@git.example.org:team/a.git",
            "host:a",
        ] {
            assert_eq!(RemoteUrl::new(good).map(|url| url.as_str().to_owned()).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "https://",
            "https:///x",
            "https://ann@h/x",
            "https://ann:pw@h/x",
            "https://@h/x",
            "https://h:0/x",
            "https://h:x/x",
            "https://h\\@evil/x",
            "https://h/ x",
            "https://h/\n",
            "https://-h/x",
            "HTTPS://h/x",
            "ssh://ann:pw@h/x",
            "ssh://-oProxyCommand=x/y",
            "ssh://a@-h/y",
            "ssh://h",
            "-oProxyCommand=x:y",
            "a@-h:y",
            "h:-x",
            "ext::sh -c id",
            "ext::id",
            "fd::17",
            "file:///etc",
            "git://h/x",
            "/etc",
            "../x",
            "./a:b",
            "--upload-pack=x",
        ] {
            assert!(RemoteUrl::new(bad).is_err(), "{bad:?}");
        }
        let of_config = |text| RemoteUrl::of_config(text).map(|url| url.as_str().to_owned());
        assert_eq!(of_config("https://ann:tok@en@h/x@y").as_deref(), Ok("https://h/x@y"));
        assert!(of_config("ssh://ann:pw@h/x").is_err());
    }

    #[test]
    fn names_are_no_options_and_lead_nowhere() {
        for good in ["origin", "up-stream", "a.b", "_x", "0"] {
            assert!(RemoteName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-x", "a/b", "a..b", ".", "..", "a.lock", "a.", "a b", "a\n", "ä", &"a".repeat(201)]
        {
            assert!(RemoteName::new(bad).is_err(), "{bad}");
        }
        for good in ["main", "feature/x", "ä", "a.b", "x@y", "1"] {
            assert!(BranchName::new(good).is_ok(), "{good}");
        }
        for bad in [
            "", "-x", "a..b", "a/", "/a", "a//b", ".a", "a/.b", "a.lock", "a.lock/b", "a.", "@", "a@{1}",
            "a b", "a~1", "a^", "a:b", "a*", "a?", "a[", "a\\b", "a\n", "HEAD",
        ] {
            assert!(BranchName::new(bad).is_err(), "{bad}");
        }
        assert!(Oid::new(&"a".repeat(40)).is_ok() && Oid::new(&"0".repeat(64)).is_ok());
        assert!(["", "HEAD", "-", &"A".repeat(40), &"a".repeat(41)].iter().all(|bad| Oid::new(bad).is_err()));
    }

    #[test]
    fn remotes_are_listed_without_users() {
        let printed = b"remote.origin.url\nhttps://ann:tok@h/x\0remote.origin.url\nhttps://other/x\0remote.a.b.url\n/path\0\
            remote.origin.pushurl\ngit@h:x\0remote.odd.pushurl\next::sh -c \x07id\0remote.bare\0";
        let remotes = Remote::parse(printed);
        let short: Vec<_> = remotes
            .iter()
            .map(|one| (&*one.name, &*one.url, one.push_url.as_deref(), one.is_usable))
            .collect();
        assert_eq!(
            short,
            [
                ("origin", "https://h/x", Some("git@h:x"), true),
                ("a.b", "/path", None, false),
                ("odd", "", Some("ext::sh -c id"), false)
            ]
        );
    }

    fn oid(letter: &str) -> Oid {
        Oid::new(&letter.repeat(40)).unwrap()
    }

    #[test]
    fn what_a_fetch_changed_is_told_and_made_so() {
        let refs = |pairs: &[(&str, &str)]| -> Tips {
            pairs.iter().map(|(name, letter)| ((*name).to_owned(), oid(letter))).collect()
        };
        let printed = format!(
            "{a} refs/heads/main \n{a} refs/remotes/o/HEAD refs/remotes/o/main\nx y \n\n",
            a = oid("a")
        );
        assert_eq!(parse_refs(printed.as_bytes()), refs(&[("refs/heads/main", "a")]));
        let before = refs(&[
            ("refs/heads/main", "a"),
            ("refs/remotes/o/a", "a"),
            ("refs/remotes/o/b", "b"),
            ("refs/tags/v1", "a"),
        ]);
        let after = refs(&[
            ("refs/heads/main", "b"),
            ("refs/remotes/o/HEAD", "c"),
            ("refs/remotes/o/a/x", "c"),
            ("refs/remotes/o/b", "c"),
            ("refs/tags/v1", "b"),
            ("refs/tags/v2", "c"),
        ]);
        let updates = Update::between(&before, &after, &RemoteName::new("o").unwrap());
        let names: Vec<_> = updates.iter().map(|one| &*one.name).collect();
        assert_eq!(names, ["refs/remotes/o/a", "refs/remotes/o/b", "refs/remotes/o/a/x", "refs/tags/v2"]);
        let mut commands = update_refs(&updates);
        let inputs: Vec<_> = commands
            .iter_mut()
            .map(|one| String::from_utf8(one.take_input()).unwrap().replace('\0', "|"))
            .collect();
        let c = oid("c");
        assert_eq!(
            inputs,
            [
                "delete refs/remotes/o/a||".to_owned(),
                format!(
                    "update refs/remotes/o/b|{c}||update refs/remotes/o/a/x|{c}||create refs/tags/v2|{c}|"
                )
            ]
        );
    }

    #[test]
    fn what_was_pushed_is_read() {
        let printed = b"To http://h/x\n \tabc:refs/heads/main\t1..2\n*\tx:refs/tags/v1\t[new tag]\n=\tx:refs/tags/v0\t[up to date]\n!\tx:refs/heads/b\t[rejected]\nDone\n";
        assert_eq!(pushed(printed), ["refs/heads/main", "refs/tags/v1"]);
    }

    proptest::proptest! {
        #[test]
        fn anything_is_read(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300), text in "\\PC{0,60}") {
            for one in Remote::parse(&bytes) {
                proptest::prop_assert!(!one.url.contains(char::is_control));
            }
            let _ = (parse_refs(&bytes), pushed(&bytes), BranchName::new(&text), RemoteName::new(&text));
            if let Ok(url) = RemoteUrl::new(&text) {
                proptest::prop_assert!(!url.as_str().starts_with('-'));
            }
        }

        #[test]
        fn no_password_comes_through(scheme in "(https?|ssh|ftp)", user in "[a-z:@%]{0,6}", secret in "[A-Z]{6}", rest in "[a-z/@:?#]{0,8}") {
            let text = format!("{scheme}://{user}:{secret}@host{rest}");
            if let Ok(url) = RemoteUrl::of_config(&text) {
                proptest::prop_assert!(!url.as_str().contains(&secret), "{}", url.as_str());
            }
            let printed = format!("remote.o.url\n{text}\0");
            let listed = Remote::parse(printed.as_bytes());
            proptest::prop_assert!(!listed[0].url.contains(&secret), "{}", &listed[0].url);
        }
    }
}
