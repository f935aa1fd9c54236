//! Shells: terminals, as the SDK sees them.
//!
//! What a session gave as a command stays that session's: others see that something runs and what it is called, never the
//! text. It is kept in memory only, to be run again.

use super::seats;
use super::socket::{Client, Fault, Room, code};
use crate::base::{BranchId, Permission, SessionId, TerminalId};
use crate::branch::{Exit, Hub, NewTerminal, Size, Terminal, TerminalError};
use crate::http::AppState;
use crate::session::{OpenShell, Wanted, create_or_find};
use crate::store::SessionRow;
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a command: the kernel takes no longer argument.
const MAX_COMMAND: usize = 128 * 1024 - 1;
/// Bytes of a name. Of a longer one that holds a command, the command is left out.
const MAX_NAME: usize = 16 * 1024;
/// Bytes of a terminal's title.
const MAX_TITLE: usize = 200;
/// How long typed text may take to the disk before a command starts.
const BARRIER: Duration = Duration::from_secs(5);
/// How long the end of a shell's processes is awaited: they have 2 s before they are killed.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Numbers of refusals.
mod number {
    pub(super) const NOT_ACCESSIBLE: i32 = 200;
    pub(super) const NOT_FOUND: i32 = 204;
    pub(super) const CLOSED: i32 = 201;
}

/// Rows and columns, as clients write them.
#[derive(Clone, Copy, Deserialize)]
pub(super) struct Dimensions {
    cols: f64,
    rows: f64,
}

impl Dimensions {
    /// The nearest that a window can have.
    pub(super) fn size(self) -> Size {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded just before")]
        let within = |number: f64, most: f64| number.clamp(1.0, most) as u16;
        Size::new(within(self.rows, 500.0), within(self.cols, 1_000.0)).unwrap_or_default()
    }
}

/// As whom a shell runs, and how it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Kind {
    /// As the session that asked.
    Terminal,
    /// As the global session.
    Command,
}

/// What became of a shell beside what its terminal tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its terminal tells.
    Own,
    /// It ends to be started again.
    Restarting,
    /// It was stopped, and can still be looked at.
    Stopped,
    /// It was terminated, and is forgotten.
    Terminated,
}

struct State {
    /// What the SDK called it; a title that others may see without.
    name: Option<SecretString>,
    fate: Fate,
    is_announced: bool,
}

/// A terminal with what the SDK's protocol has beside. Shown in no log.
pub(super) struct Shell {
    terminal: Arc<Terminal>,
    kind: Kind,
    /// Whose text its command and its name are.
    by: SessionId,
    /// A command that lies in a shared file, for all to see.
    start_command: Option<String>,
    /// To run it again; of terminals that the native API opened it is not known.
    program: Option<OpenShell>,
    /// The client that started it, until it hears of its output.
    starter: Mutex<Option<String>>,
    state: Mutex<State>,
}

/// A shell to be started.
pub(super) struct NewShell {
    pub(super) kind: Kind,
    /// Whose text the command is.
    pub(super) by: SessionId,
    /// Shown to all.
    pub(super) title: String,
    /// Whether its command lies in a shared file; such a shell is kept after its end until it is replaced.
    pub(super) is_shared: bool,
    pub(super) program: OpenShell,
    /// The id of the client that is about to subscribe to its output.
    pub(super) starter: Option<String>,
}

/// A shell, as one session may see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    shell_id: TerminalId,
    name: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    shell_type: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_system_shell: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_command: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    buffer: Option<Vec<String>>,
}

impl View {
    /// As in the answer to who started it, whatever has become of it since: what it prints, and its end, come after that.
    pub(super) fn just_started(self) -> Self {
        Self { status: "RUNNING", exit_code: None, buffer: Some(Vec::new()), ..self }
    }

    /// With what was printed until now.
    pub(super) fn with_buffer(self, printed: String) -> Self {
        // One element: clients put a line end between several.
        Self { buffer: Some(if printed.is_empty() { Vec::new() } else { vec![printed] }), ..self }
    }
}

/// The code of an exit, as shells give it: signals from 128 on.
pub(super) fn exit_code(exit: Exit) -> i32 {
    match exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => 128 + signal,
        // What ran it was killed with all in it.
        Exit::Lost => 128 + 9,
    }
}

/// The session of whoever starts a sandbox.
pub(super) fn global() -> SessionId {
    // It is one of those that are allowed.
    seats::GLOBAL.parse().unwrap_or_else(|_| unreachable!("`{}` is a session's id", seats::GLOBAL))
}

/// The row of the global session, made where it is not there yet.
pub(super) async fn global_row(app: &AppState, hub: &Hub) -> Result<SessionRow, Fault> {
    if let Some(row) = hub.session_now(&global()).await?.filter(|row| row.ended_at_ms.is_none()) {
        return Ok(row);
    }
    let wanted = Wanted {
        id: global(),
        permission: Permission::Write,
        name: None,
        email: None,
        color: None,
        may_fork: false,
    };
    let branch: &BranchId = hub.branch();
    let made = create_or_find(&app.store, &app.clock, branch, &wanted).await;
    made.map_err(|error| Fault::new(code::CRITICAL, error.to_string()))
}

/// `bash` with a command's text, or as a login shell.
pub(super) fn program(command: Option<String>, cwd: Option<String>, size: Size) -> Result<OpenShell, Fault> {
    if command.as_ref().is_some_and(|text| text.len() > MAX_COMMAND || text.contains('\0')) {
        return Err(Fault::invalid("a command has at most 131,071 bytes and no NUL; write it to a file"));
    }
    if cwd.as_ref().is_some_and(|cwd| cwd.len() > 4096 || cwd.contains('\0')) {
        return Err(Fault::invalid("the folder to start in is no path"));
    }
    let mut words = vec!["/bin/bash".to_owned()];
    match command {
        Some(text) => words.extend(["-c".to_owned(), text]),
        None => words.push("-l".to_owned()),
    }
    Ok(OpenShell { command: Some(words), cwd, env: BTreeMap::new(), size })
}

/// A name as other sessions see it: without the command that it may hold.
fn shown(name: &str) -> String {
    match serde_json::from_str::<Value>(name) {
        Ok(Value::Object(object)) => {
            let name = object.get("name").filter(|name| name.is_string()).cloned().unwrap_or(Value::Null);
            json!({ "type": "command", "command": "", "name": name }).to_string()
        }
        _ => name.to_owned(),
    }
}

/// A name as a terminal's title: what people are to read of it.
fn title(name: &str) -> String {
    let name = match serde_json::from_str::<Value>(name) {
        Ok(Value::Object(object)) => {
            object.get("name").and_then(Value::as_str).unwrap_or("command").to_owned()
        }
        _ => name.to_owned(),
    };
    let mut title: String = name.chars().filter(|c| !c.is_control()).collect();
    title.truncate(title.floor_char_boundary(MAX_TITLE));
    if title.is_empty() { "shell".to_owned() } else { title }
}

impl Shell {
    /// Whether a client started it, and is yet to hear of its output, and of its exit after that.
    pub(super) fn awaits(&self, client: &str) -> bool {
        self.starter.lock().as_deref() == Some(client)
    }

    /// Who started it has subscribed.
    pub(super) fn is_heard(&self) {
        self.starter.lock().take();
    }

    /// Its terminal.
    pub(super) fn terminal(&self) -> &Arc<Terminal> {
        &self.terminal
    }

    /// Its id.
    pub(super) fn id(&self) -> &TerminalId {
        self.terminal.id()
    }

    /// As whom it runs.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether its end is told as one: not when it was terminated, or is about to start again.
    pub(super) fn tells_exit(&self) -> bool {
        matches!(self.state.lock().fate, Fate::Own | Fate::Stopped)
    }

    /// Whether it is not forgotten.
    fn is_there(&self) -> bool {
        self.state.lock().fate != Fate::Terminated
    }

    /// Whether it stands in lists: terminals as long as they run.
    fn is_listed(&self) -> bool {
        self.is_there() && (self.kind == Kind::Command || self.terminal.is_open())
    }

    /// `true` once: others are to be told of it.
    pub(super) fn announce(&self) -> bool {
        !std::mem::replace(&mut self.state.lock().is_announced, true)
    }

    /// Whether it runs as the global session: what every session that may write can do.
    pub(super) fn runs_as_global(&self) -> bool {
        self.terminal.opener().as_str() == seats::GLOBAL
    }

    /// Whether a session may end, rename or restart it: that one, whoever gave its command, the global session.
    ///
    /// # Errors
    /// Code 200.
    pub(super) fn check_owner(&self, session: &SessionId) -> Result<(), Fault> {
        let is_owner = self.by == *session
            || self.terminal.opener() == session
            || session.as_str() == seats::GLOBAL
            || self.runs_as_global();
        let text = "only the session that the shell runs as, who gave its command, and the global session may do this";
        if is_owner { Ok(()) } else { Err(Fault::new(number::NOT_ACCESSIBLE, text)) }
    }

    /// As a session may see it.
    pub(super) fn view(&self, viewer: &SessionId) -> View {
        self.view_as(self.by == *viewer)
    }

    /// As the session whose text its name is may see it, or as others may.
    fn view_as(&self, is_own: bool) -> View {
        let shape = self.terminal.shape();
        let state = self.state.lock();
        let status = match (state.fate, shape.exit) {
            (Fate::Terminated | Fate::Stopped, _) => "KILLED",
            (Fate::Restarting, _) => "RESTARTING",
            (Fate::Own, None) => "RUNNING",
            (Fate::Own, Some((Exit::Code(0), _))) => "FINISHED",
            (Fate::Own, Some(_)) => "ERROR",
        };
        let name = match &state.name {
            Some(name) if is_own => name.expose_secret().to_owned(),
            Some(name) => shown(name.expose_secret()),
            None => shape.title,
        };
        let is_terminal = self.kind == Kind::Terminal;
        View {
            shell_id: self.terminal.id().clone(),
            name,
            status,
            exit_code: shape.exit.map(|(exit, _)| exit_code(exit)),
            shell_type: self.kind,
            owner_username: is_terminal.then(|| seats::username(self.terminal.opener()).to_owned()),
            is_system_shell: is_terminal.then_some(true),
            start_command: (!is_terminal).then(|| self.start_command.clone().unwrap_or_default()),
            buffer: None,
        }
    }

    /// Calls it something else; gives the title for those who know nothing of the SDK.
    pub(super) fn rename(&self, name: String) -> String {
        let title = title(&name);
        let name = if name.len() > MAX_NAME { shown(&name) } else { name };
        let mut kept = name;
        kept.truncate(kept.floor_char_boundary(MAX_NAME));
        self.state.lock().name = Some(kept.into());
        title
    }

    /// Its terminal was renamed by who knows nothing of the SDK; `true` where that is news.
    pub(super) fn retitled(&self) -> bool {
        let now = self.terminal.shape().title;
        let mut state = self.state.lock();
        let is_same = state.name.as_ref().is_some_and(|name| title(name.expose_secret()) == now);
        if !is_same {
            state.name = None;
        }
        !is_same
    }

    /// Returns when its program has ended, or it takes too long.
    pub(super) async fn ended(&self, within: Duration) -> bool {
        let mut shape = self.terminal.watch();
        tokio::time::timeout(within, shape.wait_for(|shape| shape.exit.is_some())).await.is_ok()
    }

    /// Returns when its program has ended.
    pub(super) async fn finished(&self) -> Option<Exit> {
        let mut shape = self.terminal.watch();
        let shape = shape.wait_for(|shape| shape.exit.is_some()).await.ok()?;
        shape.exit.map(|(exit, _)| exit)
    }
}

/// The shells of an open branch, beside its terminals.
#[derive(Default)]
pub(super) struct Shells {
    by_id: Mutex<HashMap<TerminalId, Arc<Shell>>>,
}

impl Shells {
    /// One of them.
    ///
    /// # Errors
    /// Code 204.
    pub(super) fn get(&self, hub: &Hub, id: &str) -> Result<Arc<Shell>, Fault> {
        let missing = || Fault::new(number::NOT_FOUND, "there is no such shell");
        let id: TerminalId = id.parse().map_err(|_| missing())?;
        self.of(hub, &id).filter(|shell| shell.is_there()).ok_or_else(missing)
    }

    /// The shell that a terminal is.
    pub(super) fn of(&self, hub: &Hub, id: &TerminalId) -> Option<Arc<Shell>> {
        let mut by_id = self.by_id.lock();
        let Some(terminal) = hub.terminals().get(id) else {
            by_id.remove(id);
            return None;
        };
        let shell = by_id.entry(id.clone()).or_insert_with(|| Arc::new(native(terminal)));
        Some(Arc::clone(shell))
    }

    /// Those that are listed, in the order of starting.
    pub(super) fn list(&self, hub: &Hub) -> Vec<Arc<Shell>> {
        // Locked first: one that is added meanwhile would be taken for one that is gone.
        let mut by_id = self.by_id.lock();
        let terminals = hub.terminals().list();
        by_id.retain(|id, _| terminals.iter().any(|terminal| terminal.id() == id));
        let shells = terminals.into_iter().map(|terminal| {
            let shell = by_id.entry(terminal.id().clone());
            Arc::clone(shell.or_insert_with(|| Arc::new(native(terminal))))
        });
        shells.filter(|shell| shell.is_listed()).collect()
    }

    /// Starts one, as the session of `row`, with what was typed until now on disk.
    ///
    /// # Errors
    /// Why it can't be.
    pub(super) async fn start(
        &self,
        app: &AppState,
        hub: &Arc<Hub>,
        row: &SessionRow,
        new: NewShell,
    ) -> Result<Arc<Shell>, Fault> {
        hub.terminals().room(&row.id)?;
        // What can't be written now is seen as it is on disk: a shell may be what helps.
        let _ = hub.barrier(BARRIER).await;
        let NewShell { kind, by, title: shown_title, is_shared, program, starter } = new;
        let pty = app.agents.open(hub, row, false, program.clone()).await?;
        let start_command = program.command.as_ref().filter(|_| is_shared).and_then(|words| words.last());
        let about = NewTerminal {
            opener: row.id.clone(),
            title: title(&shown_title),
            size: program.size,
            is_pinned: is_shared,
        };
        // Under the lock, so that who hears of the terminal finds the shell.
        let mut by_id = self.by_id.lock();
        let terminal = hub.terminals().add(about, pty)?;
        let id = terminal.id().clone();
        let state = State { name: None, fate: Fate::Own, is_announced: false };
        let start_command = start_command.cloned();
        let (starter, state) = (Mutex::new(starter), Mutex::new(state));
        let shell = Shell { terminal, kind, by, start_command, program: Some(program), starter, state };
        let shell = Arc::new(shell);
        by_id.insert(id, Arc::clone(&shell));
        Ok(shell)
    }

    /// Ends a shell's processes, all that came of them too; it can still be looked at. Returns when they have ended.
    ///
    /// # Errors
    /// When they take too long.
    pub(super) async fn stop(&self, hub: &Hub, shell: &Shell) -> Result<(), Fault> {
        if shell.terminal.is_open() {
            shell.state.lock().fate = Fate::Stopped;
            self.end(hub, shell).await?;
        }
        Ok(())
    }

    /// Ends a shell for good; it is forgotten.
    ///
    /// # Errors
    /// Code 204 when it was ended already.
    pub(super) async fn terminate(&self, hub: &Hub, shell: &Shell) -> Result<(), Fault> {
        let before = std::mem::replace(&mut shell.state.lock().fate, Fate::Terminated);
        if before == Fate::Terminated {
            return Err(Fault::new(number::NOT_FOUND, "there is no such shell"));
        }
        // What does not end in time is beyond reach already.
        let _ = self.end(hub, shell).await;
        self.forget(hub, shell);
        Ok(())
    }

    /// Forgets one that has ended.
    pub(super) fn forget(&self, hub: &Hub, shell: &Shell) {
        let grant = crate::branch::WriteGrant::for_api_token();
        let _ = hub.terminals().remove(shell.id(), &grant);
        self.by_id.lock().remove(shell.id());
    }

    /// Runs a shell's command again. Its processes are ended first; `between` is called when nothing of it runs.
    ///
    /// # Errors
    /// Why it can't be.
    pub(super) async fn restart(
        &self,
        app: &AppState,
        hub: &Arc<Hub>,
        shell: &Shell,
        between: impl FnOnce(),
    ) -> Result<(), Fault> {
        let program = shell.program.clone().ok_or_else(|| {
            Fault::new(code::UNAVAILABLE, "what the terminal was opened with is not known here; open another")
        })?;
        let row = hub.session_now(shell.terminal.opener()).await?;
        let row = row.filter(|row| row.ended_at_ms.is_none() && row.permission == Permission::Write);
        let row = row.ok_or_else(Fault::read_only)?;
        {
            let mut state = shell.state.lock();
            match state.fate {
                Fate::Own | Fate::Stopped => state.fate = Fate::Restarting,
                Fate::Restarting => return Err(Fault::new(code::RATE_LIMIT, "it is being restarted")),
                Fate::Terminated => return Err(Fault::new(number::NOT_FOUND, "there is no such shell")),
            }
        }
        let outcome = async {
            if shell.terminal.is_open() {
                self.end(hub, shell).await?;
            }
            between();
            let _ = hub.barrier(BARRIER).await;
            let pty = app.agents.open(hub, &row, false, program).await?;
            Ok(hub.terminals().restart(&shell.terminal, pty)?)
        };
        let outcome = outcome.await;
        let mut state = shell.state.lock();
        if state.fate == Fate::Restarting {
            state.fate = Fate::Own;
        }
        outcome
    }

    async fn end(&self, hub: &Hub, shell: &Shell) -> Result<(), Fault> {
        if shell.terminal.is_open() {
            let grant = crate::branch::WriteGrant::for_api_token();
            hub.terminals().remove(shell.id(), &grant)?;
        }
        let late = || Fault::new(code::CRITICAL, "its processes have not ended yet; try again");
        if shell.ended(END_WITHIN).await { Ok(()) } else { Err(late()) }
    }

    /// Forgets those of the SDK that have ended: the sandbox was started anew.
    pub(super) fn clear(&self, hub: &Hub) {
        let is_over = |shell: &&Arc<Shell>| shell.program.is_some() && !shell.terminal.is_open();
        let over: Vec<_> = self.by_id.lock().values().filter(is_over).cloned().collect();
        for shell in over {
            self.forget(hub, &shell);
        }
    }
}

/// A terminal that the native API opened.
fn native(terminal: Arc<Terminal>) -> Shell {
    Shell {
        kind: Kind::Terminal,
        by: terminal.opener().clone(),
        start_command: None,
        program: None,
        starter: Mutex::default(),
        state: Mutex::new(State { name: None, fate: Fate::Own, is_announced: false }),
        terminal,
    }
}

/// Tells all clients something of a shell, each what it may see.
pub(super) fn tell(room: &Room, method: &str, shell: &Shell, params: impl Fn(View) -> Value) {
    for is_own in [true, false] {
        let is_meant = |client: &Client| (*client.session() == shell.by) == is_own;
        room.notify_some(method, &params(shell.view_as(is_own)), is_meant);
    }
}

impl From<TerminalError> for Fault {
    fn from(error: TerminalError) -> Self {
        let number = match error {
            TerminalError::NotFound => number::NOT_FOUND,
            TerminalError::Closed => number::CLOSED,
            TerminalError::NotLetIn => number::NOT_ACCESSIBLE,
            TerminalError::ReadOnly => code::NO_ACCESS,
            TerminalError::TooMany | TerminalError::TooManyOfSession | TerminalError::TooManyAsk => {
                code::RATE_LIMIT
            }
            TerminalError::StillOpen | TerminalError::Size | TerminalError::TooManyTypists => code::CRITICAL,
        };
        Self::new(number, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn others_see_a_command_without_its_text() {
        let name =
            r#"{"type":"command","command":"echo tok_secret","name":"deploy","env":{"A":"tok_secret"}}"#;
        assert_eq!(shown(name), r#"{"command":"","name":"deploy","type":"command"}"#);
        assert_eq!(title(name), "deploy");
        let plain = r#"{"type":"command","command":"echo tok_secret"}"#;
        assert_eq!(shown(plain), r#"{"command":"","name":null,"type":"command"}"#);
        assert_eq!((title(plain).as_str(), shown("my shell").as_str()), ("command", "my shell"));
        assert_eq!(title("\u{7}\u{1b}"), "shell");
    }

    #[test]
    fn exits_and_sizes_are_those_of_shells() {
        let codes =
            [Exit::Code(0), Exit::Code(3), Exit::Signal(9), Exit::Signal(15), Exit::Lost].map(exit_code);
        assert_eq!(codes, [0, 3, 137, 143, 137]);
        let size = |cols, rows| {
            let size = Dimensions { cols, rows }.size();
            (size.cols(), size.rows())
        };
        assert_eq!(size(128.0, 24.0), (128, 24));
        assert_eq!([size(0.0, -5.0), size(1e9, f64::INFINITY)], [(1, 1), (1_000, 500)]);
        assert_eq!(size(f64::NAN, 2.5), (80, 24), "what is no size is the usual one");
    }

    proptest! {
        #[test]
        fn no_name_shows_the_command_in_it(secret in "[a-z]{12}", name in "[A-Z ]{0,20}", extra in "\\PC{0,20}") {
            let json = json!({ "type": "command", "command": secret, "name": name, "x": extra, "y": [secret] });
            let (shown, title) = (shown(&json.to_string()), title(&json.to_string()));
            prop_assert!(!shown.contains(&secret) && !title.contains(&secret));
            prop_assert!(title.len() <= MAX_TITLE);
        }
    }
}
