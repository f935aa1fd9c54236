//! The command line of perch.

use clap::Parser;
use perch::config::{Cli, Command};
use perch::server::Server;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut config = match cli.command {
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
            if let Some(link) = server.link() {
                use std::io::Write;
                let mut out = std::io::stdout();
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
