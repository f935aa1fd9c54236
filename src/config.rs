//! The command line and environment.

use crate::base::BranchId;
use crate::egress::Target;
use crate::sandbox::{Isolation, Level, Limits, Reach};
use clap::{Args, Parser, Subcommand};
use secrecy::SecretString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A self-hosted backend for editing code together.
///
/// Without a command it serves: on 127.0.0.1:7744, with SQLite in its own data folder. It prints a link that opens it
/// signed in. Each option can also be set by the environment variable named with it.
#[derive(Debug, Parser)]
#[command(name = "perch", version, about, after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; `serve` when left out.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// For `serve` without its name.
    #[command(flatten)]
    pub serve: Config,
}

const AFTER_HELP: &str = "By environment only:
  PERCH_OWNER_TOKEN  an owner token that is valid while perch runs, 16 or more visible ASCII characters
  PERCH_LOG          what is logged, such as `debug` or `warn,perch::branch=debug` [default: info]

SIGTERM stops in order, a second one at once. SIGHUP reads the TLS files again.";

const BACKUP_HELP: &str = "All edits that were acknowledged before it began are in it, with histories, sessions, drafts and links. Not in it:
what is in ~/.private of sessions, files for /tmp, and the keys that sign tokens of sessions (see --with-keys).
API tokens and links are in it as hashes only, and work after a restore. Sockets, pipes and devices are left out.
Run it as the user that perch runs as.";

const RESTORE_HELP: &str = "The data folder must be empty, and so must the database of --database-url. A backup of SQLite can be restored to
Postgres and the other way round. What breaks off leaves no database: empty the folder and begin again.";

const DOCTOR_HELP: &str = "Give it the options and environment that perch gets. It changes nothing, and may be asked while perch runs.
The exit code is 1 when something failed, 0 also with warnings.";

/// What perch does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs perch in the foreground.
    #[command(after_help = AFTER_HELP)]
    Serve(Box<Config>),
    /// Makes, lists and revokes API tokens, also while perch runs.
    Token(TokenCommand),
    /// Rotates the keys that sign session tokens, also while perch runs.
    Keys(KeysCommand),
    /// Writes a backup, also while perch runs: the database and all branches' files and homes.
    #[command(after_help = BACKUP_HELP)]
    Backup(BackupCommand),
    /// Makes a backup the data of a perch that holds nothing yet.
    #[command(after_help = RESTORE_HELP)]
    Restore(RestoreCommand),
    /// Writes one branch's files to a .tar.gz, also while perch runs; documents as their editors see them.
    Export(ExportCommand),
    /// Looks whether this machine has what perch needs, and says how to mend what it lacks.
    #[command(after_help = DOCTOR_HELP)]
    Doctor(Box<DoctorCommand>),
    /// What perch starts for a session; of no use to people.
    #[command(hide = true)]
    Agent,
    /// What git asks for a session's token; of no use to people.
    #[command(hide = true)]
    GitCredential {
        /// Where the session's tokens are.
        file: PathBuf,
        /// What git wants; `get` alone is answered.
        operation: String,
    },
    /// How ssh leaves a branch's network; of no use to people.
    #[command(hide = true)]
    GitTunnel {
        /// The branch's proxy.
        proxy: std::net::SocketAddr,
        /// Where to.
        host: String,
        /// Where to.
        port: std::num::NonZeroU16,
    },
    /// What perch starts to see how far it gets; of no use to people.
    #[command(hide = true)]
    TryIsolation {
        /// How far.
        level: Level,
    },
}

/// `perch token`.
#[derive(Debug, Args)]
pub struct TokenCommand {
    /// Where the tokens are.
    #[command(flatten)]
    pub place: Place,
    /// What to do.
    #[command(subcommand)]
    pub action: TokenAction,
}

/// What to do with API tokens.
#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Makes a token and prints it; it is shown this once.
    Create {
        /// For people.
        #[arg(long, default_value = "made by perch token create")]
        name: String,
        /// It may make and revoke tokens over the API.
        #[arg(long)]
        owner: bool,
    },
    /// Lists tokens: id, kind, when made, state, name.
    List,
    /// Revokes a token; the next request with it is refused.
    Revoke {
        /// `tk_…`, as `list` shows it.
        id: String,
    },
}

/// `perch keys`.
#[derive(Debug, Args)]
pub struct KeysCommand {
    /// Where the keys are.
    #[command(flatten)]
    pub place: Place,
    /// What to do.
    #[command(subcommand)]
    pub action: KeysAction,
}

/// What to do with the keys that sign session tokens.
#[derive(Debug, Subcommand)]
pub enum KeysAction {
    /// A new key signs from now on; a running perch takes it up within seconds.
    Rotate {
        /// Drops all old keys: every session token made so far becomes invalid.
        #[arg(long)]
        drop_old: bool,
    },
}

/// `perch doctor`.
#[derive(Debug, Args)]
pub struct DoctorCommand {
    /// As JSON: `{"ok", "checks": [{"name", "state", "found", "mend"?}]}`.
    #[arg(long)]
    pub json: bool,
    /// What perch is to run with.
    #[command(flatten)]
    pub config: Config,
}

/// `perch backup`.
#[derive(Debug, Args)]
pub struct BackupCommand {
    /// Where the data is.
    #[command(flatten)]
    pub place: Place,
    /// Also the keys that sign tokens of sessions: these are valid after a restore, and whoever has the backup can
    /// make some.
    #[arg(long)]
    pub with_keys: bool,
    /// The archive to be written (.tar.gz), or the folder for one named by the time. Nothing is overwritten.
    #[arg(value_name = "FILE|DIR")]
    pub to: PathBuf,
}

/// `perch restore`.
#[derive(Debug, Args)]
pub struct RestoreCommand {
    /// Where the data is to be.
    #[command(flatten)]
    pub place: Place,
    /// The backup.
    #[arg(value_name = "FILE")]
    pub from: PathBuf,
}

/// `perch export`.
#[derive(Debug, Args)]
pub struct ExportCommand {
    /// Where the data is.
    #[command(flatten)]
    pub place: Place,
    /// `br_…`.
    pub branch: BranchId,
    /// The archive to be written (.tar.gz), or the folder for one named by the branch. Nothing is overwritten.
    #[arg(value_name = "FILE|DIR")]
    pub to: PathBuf,
}

/// Where perch keeps its data.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// Data folder; by default `perch` in the XDG data folder.
    #[arg(long, env = "PERCH_DATA", global = true)]
    pub data: Option<PathBuf>,
    /// `postgres://…`; without it SQLite in the data folder.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true)]
    pub database_url: Option<SecretString>,
}

/// All settings of a server.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// Data folder; by default `perch` in the XDG data folder.
    #[arg(long, env = "PERCH_DATA", value_name = "DIR", help_heading = "Data")]
    pub data: Option<PathBuf>,
    /// `postgres://user:password@host/name`; without it SQLite in the data folder.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL", help_heading = "Data")]
    pub database_url: Option<SecretString>,
    /// Folder beneath which local git repositories may be cloned; may be given more than once.
    #[arg(
        long,
        env = "PERCH_ALLOW_LOCAL_GIT",
        value_delimiter = ',',
        value_name = "DIR",
        help_heading = "Data"
    )]
    pub allow_local_git: Vec<PathBuf>,
    /// Address to listen on; port 0 takes any free one.
    #[arg(
        long,
        env = "PERCH_LISTEN",
        default_value = "127.0.0.1:7744",
        value_name = "ADDRESS",
        help_heading = "Network"
    )]
    pub listen: SocketAddr,
    /// Where clients reach perch, such as `https://perch.example.org`; by default what they ask for.
    #[arg(long, env = "PERCH_PUBLIC_URL", value_name = "URL", value_parser = public_url, help_heading = "Network")]
    pub public_url: Option<url::Url>,
    /// Proxy (`10.0.0.0/8` or one address) whose X-Forwarded-For, -Proto, -Host and X-Request-Id are believed; may be
    /// given more than once.
    #[arg(long = "trusted-proxy", env = "PERCH_TRUSTED_PROXY", value_delimiter = ',', value_name = "CIDR",
        value_parser = network, help_heading = "Network")]
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Another origin, such as `https://app.example.org`, whose pages may use the API, open sockets and show the editor in
    /// a frame; may be given more than once.
    #[arg(long = "allowed-origin", env = "PERCH_ALLOWED_ORIGIN", value_delimiter = ',', value_name = "ORIGIN",
        value_parser = origin, help_heading = "Network")]
    pub allowed_origins: Vec<String>,
    /// Certificate chain, PEM; then perch speaks https and wss alone.
    #[arg(long, env = "PERCH_TLS_CERT", requires = "tls_key", value_name = "FILE", help_heading = "Network")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, env = "PERCH_TLS_KEY", requires = "tls_cert", value_name = "FILE", help_heading = "Network")]
    pub tls_key: Option<PathBuf>,
    /// Connections at once, document sockets among them; past it new ones wait in the kernel's queue.
    #[arg(long, env = "PERCH_MAX_CONNECTIONS", default_value_t = 10_000, value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Limits")]
    pub max_connections: u32,
    /// Seconds in which a connection must send its next request's head; then it is closed.
    #[arg(long, env = "PERCH_IDLE_TIMEOUT", default_value_t = 65, value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=3_600), help_heading = "Limits")]
    pub idle_timeout: u64,
    /// Connections at once from one address; those of this machine and of trusted proxies are not counted.
    #[arg(long, env = "PERCH_MAX_CONNECTIONS_PER_ADDRESS", default_value_t = 2_000, value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Limits")]
    pub max_connections_per_address: u32,
    /// Requests per second of one address, twenty seconds' worth of them at once; 0 is no bound. This machine's own are
    /// not counted.
    #[arg(long, env = "PERCH_RATE_PER_ADDRESS", default_value_t = 200, value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(0..=1_000_000), help_heading = "Limits")]
    pub rate_per_address: u32,
    /// Requests per second with one token, twenty seconds' worth of them at once; 0 is no bound.
    #[arg(long, env = "PERCH_RATE_PER_TOKEN", default_value_t = 1_000, value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(0..=1_000_000), help_heading = "Limits")]
    pub rate_per_token: u32,
    /// Requests answered at once; more are told to try again.
    #[arg(long, env = "PERCH_MAX_REQUESTS", default_value_t = 4_096, value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Limits")]
    pub max_requests: u32,
    /// Requests on one branch answered at once; more are told to try again.
    #[arg(long, env = "PERCH_MAX_BRANCH_REQUESTS", default_value_t = 1_024, value_name = "COUNT",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Limits")]
    pub max_branch_requests: u32,
    /// Bytes of memory that messages on their way in on sockets hold together, past 64 KiB each; past it their senders wait.
    #[arg(long, env = "PERCH_MAX_SOCKET_BYTES", default_value_t = 1024 * 1024 * 1024, value_name = "BYTES",
        value_parser = clap::value_parser!(u64).range(64 * 1024..), help_heading = "Limits")]
    pub max_socket_bytes: u64,
    /// Those of one branch's sockets.
    #[arg(long, env = "PERCH_MAX_BRANCH_SOCKET_BYTES", default_value_t = 256 * 1024 * 1024, value_name = "BYTES",
        value_parser = clap::value_parser!(u64).range(64 * 1024..), help_heading = "Limits")]
    pub max_branch_socket_bytes: u64,
    /// Entries of the audit log that are kept.
    #[arg(long, env = "PERCH_AUDIT_ENTRIES", default_value_t = 200_000, value_name = "COUNT",
        value_parser = clap::value_parser!(i64).range(1..=100_000_000), help_heading = "Limits")]
    pub audit_entries: i64,
    /// Days that entries of the audit log are kept.
    #[arg(long, env = "PERCH_AUDIT_DAYS", default_value_t = 365, value_name = "DAYS",
        value_parser = clap::value_parser!(i64).range(1..=36_500), help_heading = "Limits")]
    pub audit_days: i64,
    /// Bytes of the largest file that is shared live.
    #[arg(long, env = "PERCH_MAX_DOCUMENT_BYTES", default_value_t = 8 * 1024 * 1024, value_name = "BYTES",
        help_heading = "Limits")]
    pub max_document_bytes: u64,
    /// Bytes of the largest branch, its home folder and history of git included.
    #[arg(long, env = "PERCH_MAX_BRANCH_BYTES", default_value_t = 10 * 1024 * 1024 * 1024, value_name = "BYTES",
        help_heading = "Limits")]
    pub max_branch_bytes: u64,
    /// How sessions' processes are kept apart: `auto` takes the best that the machine allows, `root` gives each branch a
    /// user of its own, `subuid` does so without root, `nested` uses perch's own user, `none` is no isolation.
    #[arg(
        long,
        env = "PERCH_ISOLATION",
        value_enum,
        default_value_t,
        value_name = "LEVEL",
        hide_possible_values = true,
        help_heading = "Sessions"
    )]
    pub isolation: Isolation,
    /// Another folder of this machine that sessions may read, at the same place; may be given more than once.
    #[arg(
        long = "session-image",
        env = "PERCH_SESSION_IMAGE",
        value_delimiter = ',',
        value_name = "DIR",
        help_heading = "Sessions"
    )]
    pub session_image: Vec<PathBuf>,
    /// Processes and threads of one session.
    #[arg(long, env = "PERCH_SESSION_PROCESSES", default_value_t = 512, value_name = "COUNT",
        value_parser = clap::value_parser!(u64).range(16..=1_000_000), help_heading = "Sessions")]
    pub session_processes: u64,
    /// Bytes of memory of one session's processes in sum, `~/.private` and `/dev/shm` included.
    #[arg(long, env = "PERCH_SESSION_MEMORY", default_value_t = 2 * 1024 * 1024 * 1024, value_name = "BYTES",
        value_parser = clap::value_parser!(u64).range(128 * 1024 * 1024..), help_heading = "Sessions")]
    pub session_memory: u64,
    /// Hundredths of one core that a session may use, where perch has a cgroup to give.
    #[arg(long, env = "PERCH_SESSION_CPU", default_value_t = 200, value_name = "PERCENT",
        value_parser = clap::value_parser!(u64).range(5..=100_000), help_heading = "Sessions")]
    pub session_cpu: u64,
    /// Bytes of one session's `~/.private`, held in memory.
    #[arg(long, env = "PERCH_SESSION_PRIVATE", default_value_t = 64 * 1024 * 1024, value_name = "BYTES",
        value_parser = clap::value_parser!(u64).range(64 * 1024..=1024 * 1024 * 1024), help_heading = "Sessions")]
    pub session_private: u64,
    /// Sessions' worth of memory, processes and CPU that all sessions of a branch may use together.
    #[arg(long, env = "PERCH_BRANCH_SESSIONS_WORTH", default_value_t = 4, value_name = "COUNT",
        value_parser = clap::value_parser!(u64).range(1..=1_000), help_heading = "Sessions")]
    pub branch_sessions_worth: u64,
    /// What sessions' processes reach: `none` but one another, `outbound` (public hosts, by perch's proxy), or all that the
    /// `host` reaches, perch and its database included.
    #[arg(
        long,
        env = "PERCH_SESSION_NETWORK",
        default_value = "outbound",
        value_name = "REACH",
        hide_possible_values = true,
        help_heading = "Sessions"
    )]
    pub session_network: Reach,
    /// Host and port, such as `git.lan:443` or `10.0.0.5:443`, that sessions reach though it is not public; may be given
    /// more than once.
    #[arg(
        long,
        env = "PERCH_SESSION_NETWORK_ALLOW",
        value_delimiter = ',',
        value_name = "HOST:PORT",
        help_heading = "Sessions"
    )]
    pub session_network_allow: Vec<Target>,
    /// Believes an SSH server that a session's git meets for the first time; without it only servers whose keys are in the
    /// session's `~/.private/ssh/known_hosts` are spoken to.
    #[arg(long, env = "PERCH_GIT_SSH_TRUST_FIRST_USE", value_parser = clap::builder::BoolishValueParser::new(),
        help_heading = "Sessions")]
    pub git_ssh_trust_first_use: bool,
    /// Domain beneath which previews are, such as `preview.example.net`: of another site than perch's, with all its
    /// subdomains leading to perch.
    #[arg(
        long,
        env = "PERCH_PREVIEW_DOMAIN",
        default_value = "localhost",
        value_name = "DOMAIN",
        help_heading = "Sessions"
    )]
    pub preview_domain: String,
    /// Branch, `br_…`, that the CodeSandbox SDK forks where it names no template; perch makes an empty one without it.
    #[arg(long, env = "PERCH_SDK_TEMPLATE", value_name = "BRANCH", help_heading = "CodeSandbox SDK")]
    pub sdk_template: Option<BranchId>,
    /// Ids that the SDK has built in for that template; may be given more than once.
    #[arg(
        long = "sdk-template-id",
        env = "PERCH_SDK_TEMPLATE_ID",
        value_delimiter = ',',
        default_value = "pcz35m,7ngcrf",
        value_name = "ID",
        help_heading = "CodeSandbox SDK"
    )]
    pub sdk_template_ids: Vec<String>,
    /// `human` or `json`; logs go to stderr.
    #[arg(long, env = "PERCH_LOG_FORMAT", default_value = "human", value_parser = ["human", "json"],
        value_name = "FORMAT", hide_possible_values = true, help_heading = "Operating")]
    pub log_format: String,
    /// A collector of OpenTelemetry traces, such as `http://127.0.0.1:4318`; nothing is sent without it.
    #[arg(long, env = "PERCH_OTLP_ENDPOINT", value_name = "URL", value_parser = collector,
        help_heading = "Operating")]
    pub otlp_endpoint: Option<url::Url>,
    /// Answers `/metrics` without a token.
    #[arg(long, env = "PERCH_METRICS_OPEN", value_parser = clap::builder::BoolishValueParser::new(), help_heading = "Operating")]
    pub metrics_open: bool,
    /// An owner token that is valid while perch runs: 16 or more visible ASCII characters. By environment only.
    #[arg(skip)]
    pub owner_token: Option<SecretString>,
}

impl Config {
    /// The data folder.
    ///
    /// # Errors
    /// When neither `--data` nor a home folder is known.
    pub fn data_folder(&self) -> anyhow::Result<PathBuf> {
        data_folder(self.data.as_ref())
    }

    /// Bounds of one session.
    #[must_use]
    pub fn session_limits(&self) -> Limits {
        Limits {
            processes: self.session_processes,
            open_files: 65_536,
            memory_bytes: self.session_memory,
            private_bytes: self.session_private,
            file_bytes: self.max_branch_bytes,
            cpu_percent: self.session_cpu,
        }
    }

    /// Bounds of all sessions of one branch together.
    #[must_use]
    pub fn branch_limits(&self) -> Limits {
        let one = self.session_limits();
        let worth = self.branch_sessions_worth;
        Limits {
            processes: one.processes * worth,
            memory_bytes: one.memory_bytes.saturating_mul(worth),
            cpu_percent: one.cpu_percent * worth,
            ..one
        }
    }

    /// See `--idle-timeout`.
    #[must_use]
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_timeout)
    }

    /// Takes the owner token from the environment.
    ///
    /// # Errors
    /// When it is too short or holds what is not visible ASCII.
    pub fn read_owner_token(&mut self) -> anyhow::Result<()> {
        if let Ok(token) = std::env::var("PERCH_OWNER_TOKEN") {
            anyhow::ensure!(
                token.len() >= 16 && token.bytes().all(|byte| byte.is_ascii_graphic()),
                "PERCH_OWNER_TOKEN must have 16 or more visible ASCII characters"
            );
            self.owner_token = Some(token.into());
        }
        Ok(())
    }
}

/// The data folder that was given, or the one in the XDG data folder.
///
/// # Errors
/// When neither is known.
pub fn data_folder(given: Option<&PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(data) = given {
        return Ok(data.clone());
    }
    let base = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")));
    base.map(|base| base.join("perch"))
        .ok_or_else(|| anyhow::anyhow!("no data folder: give --data, or set PERCH_DATA or HOME"))
}

fn public_url(text: &str) -> Result<url::Url, String> {
    let url: url::Url = text.parse().map_err(|error| format!("{error}"))?;
    let is_plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if !["http", "https"].contains(&url.scheme()) || !url.has_host() || !is_plain {
        return Err("give http:// or https://, a host, and at most a port and a path".into());
    }
    Ok(url)
}

fn collector(text: &str) -> Result<url::Url, String> {
    let url: url::Url = text.parse().map_err(|error| format!("{error}"))?;
    if url.scheme() != "http" || !url.has_host() || !url.username().is_empty() || url.password().is_some() {
        return Err(
            "give http:// and a host without user or password; a collector beside perch may speak TLS on"
                .into(),
        );
    }
    Ok(url)
}

/// An origin as browsers write it: a URL without path, default port and capitals.
fn origin(text: &str) -> Result<String, String> {
    let url: url::Url = text.parse().map_err(|error| format!("{error}"))?;
    if !url.origin().is_tuple() || url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err("give a scheme, a host, and at most a port, such as https://app.example.org".into());
    }
    Ok(url.origin().ascii_serialization())
}

fn network(text: &str) -> Result<ipnet::IpNet, String> {
    let net = text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from));
    net.map_err(|_| "give a network such as 10.0.0.0/8, or an address".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_wrong_value_is_answered_by_a_line_that_names_the_flag() {
        for (flag, value) in [
            ("--listen", "nowhere"),
            ("--public-url", "ftp://x"),
            ("--public-url", "https://a/?b"),
            ("--trusted-proxy", "10.0.0.0/99"),
            ("--allowed-origin", "https://a.example/path"),
            ("--max-connections", "0"),
            ("--log-format", "xml"),
            ("--session-network", "all"),
            ("--otlp-endpoint", "https://collector.example"),
            ("--otlp-endpoint", "http://user:word@collector.example"),
            ("--session-network-allow", "10.0.0.5"),
        ] {
            let error = Cli::try_parse_from(["perch", "serve", flag, value]).unwrap_err().to_string();
            let first = error.lines().next().unwrap();
            assert!(first.contains(flag) && first.contains(value), "{first}");
        }
        assert!(Cli::try_parse_from(["perch", "--tls-cert", "a"]).is_err(), "a certificate without a key");
    }

    #[test]
    fn origins_are_taken_as_browsers_write_them() {
        assert_eq!(origin("HTTPS://App.example.org:443/").unwrap(), "https://app.example.org");
        assert_eq!(network("::1").unwrap().to_string(), "::1/128");
    }
}
