//! Load on perch and on its peers, one server at a time, over their own protocols: `peers.mjs` beside this file starts
//! them and makes a table of what this says. `docs/performance.md` holds the numbers.
//!
//! `cargo bench --bench load -- SCENARIO --help`. Frames and updates are read and written here without perch's code, so
//! that no peer is measured by perch's idea of its protocol. Each scenario prints one JSON object.
//!
//! | file | idea |
//! |---|---|
//! | `socket.rs` | a WebSocket client that costs little: it shares the machine with what it measures |
//! | `wire.rs` | frames of y-websocket and Hocuspocus |
//! | `pen.rs` | updates as an editor makes them for somebody who types |
//! | `crowd.rs` | clients of one document: who has seen what, and when |
//! | `scenarios.rs` | what is measured |
//! | `server.rs` | what the server's process costs |
//! | `ceiling.rs` | a broadcaster without documents: what the transport alone costs |

#![expect(clippy::print_stdout, reason = "the answer")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

mod ceiling;
mod crowd;
mod pen;
mod scenarios;
mod server;
mod socket;
mod wire;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use wire::Protocol;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    what: What,
    /// Given by cargo.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

/// Where the server is and how it is spoken to.
#[derive(Args, Clone, Debug)]
struct Target {
    /// Of its sockets, `http://HOST:PORT/PATH?QUERY`; `{doc}` stands for the document.
    #[arg(long)]
    url: String,
    /// Its language.
    #[arg(long)]
    protocol: Protocol,
    /// For Hocuspocus' first message.
    #[arg(long, default_value = "token")]
    token: String,
    /// Its process, for processor time and memory.
    #[arg(long)]
    pid: u32,
    /// The document; scenarios with more than one put a number behind it.
    #[arg(long, default_value = "load.txt")]
    doc: String,
}

#[derive(Subcommand)]
enum What {
    /// People who type at their own pace: latency, and processor time of the server for each delivery.
    Typing {
        #[command(flatten)]
        target: Target,
        #[arg(long, default_value_t = 200)]
        clients: usize,
        #[arg(long, default_value_t = 20)]
        writers: usize,
        /// Keys of each writer in a second.
        #[arg(long, default_value_t = 5.0)]
        rate: f64,
        #[arg(long, default_value_t = 8.0)]
        seconds: f64,
    },
    /// One writer as fast as windows of unseen updates allow, one reader.
    Window {
        #[command(flatten)]
        target: Target,
        #[arg(long, default_value_t = 20_000)]
        updates: u32,
        #[arg(long, default_value_t = 64)]
        window: u32,
    },
    /// Many writers, each with some updates that not all others have seen yet.
    Saturate {
        #[command(flatten)]
        target: Target,
        #[arg(long, default_value_t = 50)]
        clients: usize,
        #[arg(long, default_value_t = 10)]
        writers: usize,
        #[arg(long, default_value_t = 8)]
        in_flight: u32,
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
    },
    /// Memory of idle connections and of open documents of 2 KB with two connections each.
    Documents {
        #[command(flatten)]
        target: Target,
        #[arg(long, default_value_t = 500)]
        documents: usize,
    },
    /// Takes a long history in, one update a frame.
    History {
        #[command(flatten)]
        target: Target,
        /// Its updates, each led by its length (four bytes, little endian).
        #[arg(long)]
        updates: PathBuf,
    },
    /// One client syncs.
    Sync {
        #[command(flatten)]
        target: Target,
    },
    /// Many clients connect at once and sync a document of 100 KB.
    Storm {
        #[command(flatten)]
        target: Target,
        #[arg(long, default_value_t = 500)]
        clients: usize,
    },
    /// Two writers at 10 keys a second and a reader, then SIGKILL for the server. Says what was acknowledged and seen;
    /// `sync` says after a restart what is there.
    Kill {
        #[command(flatten)]
        target: Target,
        #[arg(long, default_value_t = 4.0)]
        seconds: f64,
    },
    /// Serves a broadcaster without documents.
    Ceiling {
        #[arg(long)]
        port: u16,
        /// Write what waits for a connection at once.
        #[arg(long)]
        batched: bool,
    },
}

fn main() {
    let line = Line::parse();
    let one_thread =
        || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    if let What::Ceiling { port, batched } = line.what {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        return runtime.block_on(ceiling::serve(port, batched));
    }
    let local = tokio::task::LocalSet::new();
    let figures = local.block_on(&one_thread(), async {
        match line.what {
            What::Typing { target, clients, writers, rate, seconds } => {
                scenarios::typing(&target, clients, writers, rate, seconds).await
            }
            What::Window { target, updates, window } => scenarios::window(&target, updates, window).await,
            What::Saturate { target, clients, writers, in_flight, seconds } => {
                scenarios::saturate(&target, clients, writers, in_flight, seconds).await
            }
            What::Documents { target, documents } => scenarios::documents(&target, documents).await,
            What::History { target, updates } => scenarios::history(&target, &updates).await,
            What::Sync { target } => scenarios::sync(&target).await,
            What::Storm { target, clients } => scenarios::storm(&target, clients).await,
            What::Kill { target, seconds } => scenarios::kill(&target, seconds).await,
            What::Ceiling { .. } => unreachable!("served above"),
        }
    });
    println!("{figures}");
}
