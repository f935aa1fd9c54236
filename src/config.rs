//! The command line and environment.

use clap::{Args, Parser, Subcommand};
use secrecy::SecretString;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A self-hosted backend for editing code together.
#[derive(Debug, Parser)]
#[command(name = "perch", version, about)]
pub struct Cli {
    /// What to do; `serve` when left out.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// For `serve` without its name.
    #[command(flatten)]
    pub serve: Config,
}

/// What perch does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs perch in the foreground.
    Serve(Config),
    /// Makes, lists and revokes API tokens, also while perch runs.
    Token(TokenCommand),
    /// Rotates the keys that sign session tokens, also while perch runs.
    Keys(KeysCommand),
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
    /// Address to listen on; port 0 takes any free one.
    #[arg(long, env = "PERCH_LISTEN", default_value = "127.0.0.1:7744")]
    pub listen: SocketAddr,
    /// Data folder; by default `perch` in the XDG data folder.
    #[arg(long, env = "PERCH_DATA")]
    pub data: Option<PathBuf>,
    /// `postgres://…`; without it SQLite in the data folder.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<SecretString>,
    /// Where clients reach perch, such as `https://perch.example.org`; by default what they ask for.
    #[arg(long, env = "PERCH_PUBLIC_URL")]
    pub public_url: Option<url::Url>,
    /// Another origin whose pages may open sockets; may be given more than once.
    #[arg(long = "allowed-origin", env = "PERCH_ALLOWED_ORIGIN", value_delimiter = ',')]
    pub allowed_origins: Vec<String>,
    /// Folder beneath which local git repositories may be cloned; may be given more than once.
    #[arg(long, env = "PERCH_ALLOW_LOCAL_GIT", value_delimiter = ',')]
    pub allow_local_git: Vec<PathBuf>,
    /// Bytes of the largest file that is shared live.
    #[arg(long, env = "PERCH_MAX_DOCUMENT_BYTES", default_value_t = 8 * 1024 * 1024)]
    pub max_document_bytes: u64,
    /// Bytes of the largest branch, its home folder and history of git included.
    #[arg(long, env = "PERCH_MAX_BRANCH_BYTES", default_value_t = 10 * 1024 * 1024 * 1024)]
    pub max_branch_bytes: u64,
    /// `human` or `json`.
    #[arg(long, env = "PERCH_LOG_FORMAT", default_value = "human", value_parser = ["human", "json"])]
    pub log_format: String,
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
