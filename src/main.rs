//! The command line of perch.

use clap::Parser;
use perch::admin;
use perch::config::{Cli, Command, Config, DoctorCommand, TokenCommand};
use perch::sandbox::{Isolation, Standing, enter, prepare};
use perch::server::Server;
use perch::traces::Traces;
use secrecy::ExposeSecret;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::prelude::*;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = match cli.command {
        Some(Command::Token(command)) => return finish(admin_token(command)),
        Some(Command::Keys(command)) => return finish(admin::keys(&command, &mut std::io::stdout())),
        Some(Command::Backup(command)) => {
            return finish(beside(async |told| admin::backup(command, told).await));
        }
        Some(Command::Restore(command)) => {
            return finish(beside(async |told| admin::restore(command, told).await));
        }
        Some(Command::Export(command)) => {
            return finish(beside(async |told| admin::export(command, told).await));
        }
        Some(Command::Doctor(command)) => {
            let standing = prepare(command.config.isolation);
            return match examine(&command, standing) {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::FAILURE,
                Err(error) => finish(Err(error)),
            };
        }
        Some(Command::Agent) => return finish(perch::agent::serve().map_err(Into::into)),
        Some(Command::GitCredential { file, operation }) => {
            let (stdin, stdout) = (std::io::stdin().lock(), std::io::stdout().lock());
            return finish(perch::git::answer(&file, &operation, stdin, stdout).map_err(Into::into));
        }
        Some(Command::GitTunnel { proxy, host, port }) => {
            return finish(perch::egress::leave(proxy, &host, port).map_err(Into::into));
        }
        Some(Command::TryIsolation { level }) => {
            return match enter(level) {
                Ok(_) => ExitCode::SUCCESS,
                Err(reason) => {
                    eprintln!("{reason}");
                    ExitCode::FAILURE
                }
            };
        }
        Some(Command::Serve(config)) => *config,
        None => cli.serve,
    };
    // Entering a user namespace needs a process with one thread.
    let standing = prepare(config.isolation);
    let started = start(&config);
    let (runtime, traces) = match started {
        Ok(started) => started,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = run(config, standing, &runtime);
    if let Some(traces) = traces {
        traces.stop();
    }
    // A blocking call may hang on a dead disk; that must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("perch can't run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn admin_token(command: TokenCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(admin::token(command, &mut std::io::stdout()))
}

fn examine(command: &DoctorCommand, standing: Standing) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut out = std::io::stdout();
    runtime.block_on(admin::doctor(&command.config, standing, command.json, &mut out))
}

/// Work on branches' files, which may belong to users of perch's own user namespace; it tells of itself on stderr.
fn beside(work: impl AsyncFnOnce(&mut std::io::Stderr) -> anyhow::Result<()>) -> anyhow::Result<()> {
    // Before the first thread.
    let _ = prepare(Isolation::Auto);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work(&mut std::io::stderr()))
}

fn finish(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "perch: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The runtime, and in it what is told to whom.
fn start(config: &Config) -> anyhow::Result<(Runtime, Option<Traces>)> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let entered = runtime.enter();
    let traces = config.otlp_endpoint.as_ref().map(Traces::start).transpose()?;
    start_log(&config.log_format, traces.as_ref())?;
    drop(entered);
    Ok((runtime, traces))
}

/// Logs go to stderr. Of other crates only warnings come through, whatever the filter says: at their lower levels some
/// write whole requests, in which tokens travel.
fn start_log(format: &str, traces: Option<&Traces>) -> anyhow::Result<()> {
    let filter = match std::env::var("PERCH_LOG") {
        Ok(text) => EnvFilter::try_new(&text)
            .map_err(|error| anyhow::anyhow!("PERCH_LOG: `{text}` is no log filter: {error}"))?,
        Err(_) => EnvFilter::new("info"),
    };
    let ours = filter_fn(|meta| {
        let target = meta.target();
        target == "perch" || target.starts_with("perch::") || *meta.level() <= Level::WARN
    });
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if format == "json" {
        lines.json().boxed()
    } else {
        let is_colourful = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        lines.with_ansi(is_colourful).boxed()
    };
    // Both behind one filter: with one each, what a library asks about without saying it (sqlx does) takes lines away
    // from both.
    let told = lines.and_then(traces.map(Traces::layer));
    tracing_subscriber::registry().with(told.with_filter(ours).with_filter(filter)).init();
    Ok(())
}

fn run(mut config: Config, standing: Standing, runtime: &Runtime) -> anyhow::Result<()> {
    config.read_owner_token()?;
    runtime.block_on(serve(config, standing))
}

async fn serve(config: Config, standing: Standing) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut asked_to_stop = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let server = tokio::select! {
        started = Server::start(config, standing) => started?,
        // Nothing was served yet.
        () = asked_to_stop() => return Ok(()),
    };
    let mut out = std::io::stdout();
    if let Some(token) = server.first_token() {
        writeln!(out, "owner token, shown this once: {}", token.expose_secret())?;
    }
    if let Some(link) = server.link() {
        writeln!(out, "perch is ready: {link}")?;
        out.flush()?;
    }
    // Without a handler it would end perch, undrained.
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = hangup.recv() => server.reload(),
            () = asked_to_stop() => break,
        }
    }
    tokio::select! {
        () = server.stop() => Ok(()),
        () = asked_to_stop() => anyhow::bail!("stopped at once by a second signal; what was acknowledged is durable"),
    }
}
