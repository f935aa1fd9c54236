//! The command line of perch.

use clap::Parser;
use perch::admin;
use perch::config::{Cli, Command, TokenCommand};
use perch::server::Server;
use secrecy::ExposeSecret;
use std::io::Write;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut config = match cli.command {
        Some(Command::Token(command)) => return finish(admin_token(command)),
        Some(Command::Keys(command)) => return finish(admin::keys(&command, &mut std::io::stdout())),
        Some(Command::Serve(config)) => config,
        None => cli.serve,
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("PERCH_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,sqlx=warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if config.log_format == "json" {
        log.json().init();
    } else {
        log.init();
    }
    let outcome = config.read_owner_token().and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let server = Server::start(config).await?;
            let mut out = std::io::stdout();
            if let Some(token) = server.first_token() {
                writeln!(out, "owner token, shown this once: {}", token.expose_secret())?;
            }
            if let Some(link) = server.link() {
                writeln!(out, "perch is ready: {link}")?;
                out.flush()?;
            }
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            server.stop().await;
            Ok(())
        })
    });
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

fn finish(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "perch: {error:#}");
            ExitCode::FAILURE
        }
    }
}
