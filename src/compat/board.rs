//! What an open sandbox runs by itself: the steps of its setup and its tasks, out of `.codesandbox/tasks.json`, as the
//! global session.
//!
//! The first step is perch's own, so that there is always one: it looks for the programs that the SDK takes for granted.
//! The steps of the file follow on a start from stopped, and whenever the setup is run again; then tasks that run at start.

use super::sandboxes::{Bootup, Life};
use super::shells::{self, Kind, NewShell, Shell, Shells, View};
use super::socket::{Client, Fault, Room};
use super::tasks_file::{self, MAX_BYTES, Preview, Step, Task, TasksFile};
use crate::base::{SessionId, TerminalId};
use crate::branch::{DocError, Exit, Hub, OpenPort, Size};
use crate::http::AppState;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// What the SDK runs in a sandbox.
const CHECK: &str = "for program in bash git node python3 python unzip; do\n  \
    command -v \"$program\" || echo \"$program is missing: what needs it fails\"\ndone";
/// How long the first answer waits for perch's own step, where no other follows: version 2.4.2 of the SDK hears of no later
/// end of the setup.
const CHECK_WITHIN: Duration = Duration::from_secs(20);
/// Of no such task.
const TASK_NOT_FOUND: i32 = 601;
/// Lines and columns of what runs by itself.
const SIZE: (u16, u16) = (24, 128);

/// Where the setup stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Phase {
    #[default]
    Idle,
    InProgress,
    Finished,
    Stopped,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum Finish {
    Succeeded,
    Failed,
    Skipped,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StepState {
    #[serde(flatten)]
    step: Step,
    shell_id: Option<TerminalId>,
    finish_status: Option<Finish>,
}

/// The setup, as clients see it.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Progress {
    state: Phase,
    current_step_index: usize,
    steps: Vec<StepState>,
}

#[derive(Default)]
struct State {
    /// The stretch of the sandbox's life that this is of.
    life: Weak<Life>,
    file: Arc<TasksFile>,
    /// The last shell of each task that has run.
    shells: HashMap<String, Arc<Shell>>,
    /// The ports of each task that were told last.
    ports: HashMap<String, Vec<u16>>,
    progress: Progress,
    /// Shells of the steps, to be stopped or forgotten.
    step_shells: Vec<Arc<Shell>>,
    /// Counts the runs of the setup: one that was begun again goes on no more.
    run: u64,
}

/// See the module's docs; one for each open branch.
pub(super) struct Board {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    /// Held by who begins or stops a task.
    turn: tokio::sync::Mutex<()>,
}

impl Default for Board {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(()), turn: tokio::sync::Mutex::default() }
    }
}

/// What work on a board needs.
#[derive(Clone)]
pub(super) struct At {
    pub(super) app: AppState,
    pub(super) hub: Arc<Hub>,
    pub(super) room: Arc<Room>,
}

/// A task, as a session may see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskView {
    id: String,
    name: String,
    command: String,
    run_at_start: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    preview: Option<Preview>,
    shell: Option<View>,
    ports: Vec<PortView>,
}

/// A port that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct PortView {
    pub(super) port: u16,
    /// A host, without a scheme.
    pub(super) url: String,
}

/// All of the file, as a session may see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskList {
    tasks: Tasks,
    setup_tasks: Vec<Step>,
    validation_errors: Vec<String>,
}

/// A map, in the order of the file.
struct Tasks(Vec<TaskView>);

impl Serialize for Tasks {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|task| (&task.id, task)))
    }
}

/// Reads the file as it is now.
async fn read(hub: &Hub) -> TasksFile {
    let Ok(path) = tasks_file::PATH.parse() else { return TasksFile::default() };
    if let Ok(entry) = hub.stat(&path).await
        && entry.len_bytes > MAX_BYTES as u64
    {
        return tasks_file::unusable(&format!("has more than {MAX_BYTES} bytes"));
    }
    match hub.read(&path, None).await {
        Ok(content) => tasks_file::parse(&content.bytes),
        Err(DocError::NotFound(_)) => TasksFile::default(),
        Err(error) => tasks_file::unusable(&error.to_string()),
    }
}

fn program(command: &str) -> Result<crate::session::OpenShell, Fault> {
    let size = Size::new(SIZE.0, SIZE.1).unwrap_or_default();
    shells::program(Some(command.to_owned()), None, size)
}

impl At {
    /// Where a client is.
    pub(super) fn of(client: &Client) -> Self {
        let (app, hub, room) = (client.app().clone(), Arc::clone(client.hub()), Arc::clone(client.room()));
        Self { app, hub, room }
    }

    /// Where a room's clients are; none where there are none.
    pub(super) fn in_room(room: &Room) -> Option<Self> {
        room.clients().first().map(|client| Self::of(client))
    }

    fn board(&self) -> Arc<Board> {
        self.room.shared()
    }

    async fn start(&self, name: &str, command: &str) -> Result<Arc<Shell>, Fault> {
        let row = shells::global_row(&self.app, &self.hub).await?;
        let new = NewShell {
            kind: Kind::Command,
            by: shells::global(),
            title: name.to_owned(),
            is_shared: true,
            program: program(command)?,
            starter: None,
        };
        self.room.shared::<Shells>().start(&self.app, &self.hub, &row, new).await
    }

    fn forget(&self, shell: &Shell) {
        self.room.shared::<Shells>().forget(&self.hub, shell);
    }

    /// Begins a stretch of the sandbox's life, once: its setup, then what runs at start.
    pub(super) async fn begin(&self, life: &Arc<Life>) {
        let board = self.board();
        let _turn = board.turn.lock().await;
        if std::ptr::eq(board.state.lock().life.as_ptr(), Arc::as_ptr(life)) {
            return;
        }
        let file = Arc::new(read(&self.hub).await);
        // Of a life that has ended nothing runs any more.
        self.room.shared::<Shells>().clear(&self.hub);
        let is_clean = life.begins_once() && life.bootup == Bootup::Clean;
        let steps = if is_clean { file.setup.clone() } else { Vec::new() };
        let run = {
            let mut state = board.state.lock();
            state.life = Arc::downgrade(life);
            state.file = Arc::clone(&file);
            state.shells.clear();
            state.ports.clear();
            state.begin_steps(steps)
        };
        let this = self.clone();
        self.room.spawn(async move {
            if this.run_steps(run, 0).await && life_goes_on(&this.board(), run) {
                this.run_at_start().await;
            }
        });
    }

    /// Runs the setup again, all of it.
    pub(super) async fn begin_again(&self) -> Progress {
        let file = Arc::new(read(&self.hub).await);
        let board = self.board();
        let (run, before) = {
            let mut state = board.state.lock();
            let before = std::mem::take(&mut state.step_shells);
            state.file = Arc::clone(&file);
            (state.begin_steps(file.setup.clone()), before)
        };
        self.go_on(run, 0, before);
        board.progress()
    }

    /// Goes on with the setup at a step.
    pub(super) fn set_step(&self, index: usize) -> Result<Progress, Fault> {
        let board = self.board();
        let (run, before) = {
            let mut state = board.state.lock();
            if index >= state.progress.steps.len() {
                return Err(Fault::invalid("there is no such step"));
            }
            for step in &mut state.progress.steps[index..] {
                (step.shell_id, step.finish_status) = (None, None);
            }
            state.run += 1;
            state.progress.state = Phase::InProgress;
            state.progress.current_step_index = index;
            let State { progress, step_shells, .. } = &mut *state;
            let is_kept = |shell: &Arc<Shell>| {
                progress.steps.iter().any(|step| step.shell_id.as_ref() == Some(shell.id()))
            };
            let (kept, before) = std::mem::take(step_shells).into_iter().partition(is_kept);
            *step_shells = kept;
            (state.run, before)
        };
        self.go_on(run, index, before);
        Ok(board.progress())
    }

    fn go_on(&self, run: u64, from: usize, before: Vec<Arc<Shell>>) {
        let this = self.clone();
        self.tell_progress();
        self.room.spawn(async move {
            let shells = this.room.shared::<Shells>();
            for shell in before {
                let _ = shells.stop(&this.hub, &shell).await;
                this.forget(&shell);
            }
            this.run_steps(run, from).await;
        });
    }

    /// Leaves a step out, or all that have not ended.
    pub(super) async fn skip(&self, index: Option<usize>) -> Result<Progress, Fault> {
        let board = self.board();
        let stopped = {
            let mut state = board.state.lock();
            let steps = &mut state.progress.steps;
            let meant = match index {
                Some(index) if index < steps.len() => index..index + 1,
                Some(_) => return Err(Fault::invalid("there is no such step")),
                None => 0..steps.len(),
            };
            let mut stopped = Vec::new();
            for step in &mut steps[meant] {
                if step.finish_status.is_none() {
                    step.finish_status = Some(Finish::Skipped);
                    stopped.extend(step.shell_id.clone());
                }
            }
            stopped
        };
        let shells = self.room.shared::<Shells>();
        for id in stopped {
            if let Some(shell) = shells.of(&self.hub, &id) {
                shells.stop(&self.hub, &shell).await?;
            }
        }
        self.tell_progress();
        Ok(board.progress())
    }

    /// Runs steps until one fails, or the setup is begun again. `true`: all have ended well.
    async fn run_steps(&self, run: u64, from: usize) -> bool {
        let board = self.board();
        let mut index = from;
        loop {
            let step = {
                let mut state = board.state.lock();
                if state.run != run {
                    return false;
                }
                let Some(step) = state.progress.steps.get(index).cloned() else {
                    state.progress.state = Phase::Finished;
                    break;
                };
                state.progress.current_step_index = index;
                step
            };
            index += 1;
            if step.finish_status.is_some() {
                continue;
            }
            let started = self.start(&step.step.name, &step.step.command).await;
            if let Err(fault) = &started {
                tracing::warn!(branch.id = %self.hub.branch(), "a setup step can't be started: {}", fault.message());
            }
            let is_present = board.with_step(run, index - 1, |state, at| {
                if let Ok(shell) = &started {
                    state.progress.steps[at].shell_id = Some(shell.id().clone());
                    state.step_shells.push(Arc::clone(shell));
                }
            });
            if !is_present {
                if let Ok(shell) = started {
                    let _ = self.room.shared::<Shells>().stop(&self.hub, &shell).await;
                    self.forget(&shell);
                }
                return false;
            }
            self.tell_progress();
            let exit = match &started {
                Ok(shell) => shell.finished().await,
                Err(_) => None,
            };
            let finish = if exit == Some(Exit::Code(0)) { Finish::Succeeded } else { Finish::Failed };
            let mut is_stopped = false;
            let is_present = board.with_step(run, index - 1, |state, at| {
                let finish = *state.progress.steps[at].finish_status.get_or_insert(finish);
                is_stopped = finish == Finish::Failed;
                if is_stopped {
                    state.progress.state = Phase::Stopped;
                }
            });
            if !is_present || is_stopped {
                self.tell_progress();
                return false;
            }
            self.tell_progress();
        }
        self.tell_progress();
        true
    }

    fn tell_progress(&self) {
        let board = self.board();
        board.changed.send_replace(());
        self.room.notify_all("setup/progress", &board.progress());
    }

    async fn run_at_start(&self) {
        let file = Arc::clone(&self.board().state.lock().file);
        for task in file.tasks.iter().filter(|task| task.run_at_start) {
            if let Err(fault) = self.run_task(&task.id).await {
                tracing::warn!(branch.id = %self.hub.branch(), "a task can't be started: {}", fault.message());
            }
        }
    }

    /// Runs a task; one that runs is ended first.
    ///
    /// # Errors
    /// Code 601 for one that is not there; why it can't be started.
    pub(super) async fn run_task(&self, id: &str) -> Result<(), Fault> {
        let board = self.board();
        let _turn = board.turn.lock().await;
        let file = self.look().await;
        let task = file.task_of(id).ok_or_else(no_task)?;
        let before = board.state.lock().shells.get(id).cloned();
        if let Some(before) = before {
            self.room.shared::<Shells>().stop(&self.hub, &before).await?;
            self.forget(&before);
        }
        let shell = self.start(&task.name, &task.command).await?;
        board.state.lock().shells.insert(id.to_owned(), shell);
        self.tell_task(task);
        Ok(())
    }

    /// Ends a task's processes.
    ///
    /// # Errors
    /// Code 601 for one that is not there; when they do not end.
    pub(super) async fn stop_task(&self, id: &str) -> Result<(), Fault> {
        let board = self.board();
        let _turn = board.turn.lock().await;
        let file = self.look().await;
        let task = file.task_of(id).ok_or_else(no_task)?;
        let shell = board.state.lock().shells.get(id).cloned();
        if let Some(shell) = shell {
            self.room.shared::<Shells>().stop(&self.hub, &shell).await?;
            self.tell_task(task);
        }
        Ok(())
    }

    /// The file as it is now.
    async fn look(&self) -> Arc<TasksFile> {
        let file = Arc::new(read(&self.hub).await);
        self.board().state.lock().file = Arc::clone(&file);
        file
    }

    /// The file may have changed: whoever has seen another is told.
    pub(super) async fn changed(&self) {
        let board = self.board();
        let before = Arc::clone(&board.state.lock().file);
        let now = self.look().await;
        if *before != *now {
            for client in self.room.clients() {
                let list = self.view(&now, client.session(), client.base_url());
                client.notify("task/listUpdate", &list);
            }
        }
    }

    /// All tasks.
    pub(super) async fn list(&self, viewer: &SessionId, base_url: &str) -> TaskList {
        let file = self.look().await;
        self.view(&file, viewer, base_url)
    }

    fn view(&self, file: &TasksFile, viewer: &SessionId, base_url: &str) -> TaskList {
        let tasks = file.tasks.iter().map(|task| self.task_view(task, viewer, base_url)).collect();
        TaskList {
            tasks: Tasks(tasks),
            setup_tasks: file.setup.clone(),
            validation_errors: file.errors.clone(),
        }
    }

    /// One task, as it is now.
    ///
    /// # Errors
    /// Code 601.
    pub(super) fn task(&self, id: &str, viewer: &SessionId, base_url: &str) -> Result<TaskView, Fault> {
        let file = Arc::clone(&self.board().state.lock().file);
        let task = file.task_of(id).ok_or_else(no_task)?;
        Ok(self.task_view(task, viewer, base_url))
    }

    fn task_view(&self, task: &Task, viewer: &SessionId, base_url: &str) -> TaskView {
        let shell = self.board().state.lock().shells.get(&task.id).cloned();
        let shell = shell.filter(|shell| self.hub.terminals().get(shell.id()).is_some());
        let Task { id, name, command, run_at_start, preview } = task.clone();
        let ports = self.ports_of(task, shell.as_deref());
        let ports = ports.into_iter().map(|open| port_view(&self.app, &self.hub, base_url, &open)).collect();
        let shell = shell.map(|shell| shell.view(viewer));
        TaskView { id, name, command, run_at_start, preview, shell, ports }
    }

    /// The ports of a task that are open: the one that the file names, and those that its processes listen on.
    fn ports_of(&self, task: &Task, shell: Option<&Shell>) -> Vec<OpenPort> {
        let named = task.preview.as_ref().and_then(|preview| preview.port);
        let terminal = shell.map(Shell::terminal).filter(|terminal| terminal.is_open());
        let is_of = |open: &OpenPort| {
            named == Some(open.port.get())
                || terminal.is_some_and(|terminal| {
                    open.command.is_some()
                        && open.command == terminal.number()
                        && open.session.as_ref() == Some(terminal.opener())
                })
        };
        self.hub.ports().list().into_iter().filter(is_of).collect()
    }

    fn tell_task(&self, task: &Task) {
        for client in self.room.clients() {
            client.notify("task/update", &self.task_view(task, client.session(), client.base_url()));
        }
    }

    /// A shell has ended: its task is told of, if it is one.
    pub(super) fn shell_ended(&self, shell: &TerminalId) {
        let (file, id) = {
            let board = self.board();
            let state = board.state.lock();
            let of = state.shells.iter().find(|(_, it)| it.id() == shell).map(|(id, _)| id.clone());
            (Arc::clone(&state.file), of)
        };
        if let Some(task) = id.and_then(|id| file.task_of(&id)) {
            self.tell_task(task);
        }
    }

    /// A port was opened or closed: tasks that have others now are told of.
    pub(super) fn ports_changed(&self) {
        let board = self.board();
        let file = Arc::clone(&board.state.lock().file);
        for task in &file.tasks {
            let shell = board.state.lock().shells.get(&task.id).cloned();
            let now: Vec<_> =
                self.ports_of(task, shell.as_deref()).iter().map(|open| open.port.get()).collect();
            let before = match &now[..] {
                [] => board.state.lock().ports.remove(&task.id),
                _ => board.state.lock().ports.insert(task.id.clone(), now.clone()),
            };
            if before.unwrap_or_default() != now {
                self.tell_task(task);
            }
        }
    }

    /// The setup, begun where it is not yet.
    pub(super) async fn progress(&self, life: &Arc<Life>) -> Progress {
        self.begin(life).await;
        let board = self.board();
        let mut changed = board.changed.subscribe();
        let short = async { while board.progress().is_short() && changed.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(CHECK_WITHIN, short).await;
        board.progress()
    }
}

fn no_task() -> Fault {
    Fault::new(TASK_NOT_FOUND, "there is no such task in .codesandbox/tasks.json")
}

fn life_goes_on(board: &Board, run: u64) -> bool {
    let state = board.state.lock();
    state.run == run && state.life.upgrade().is_some_and(|life| !life.going().is_cancelled())
}

/// The ports that the branch's processes listen on, with the hosts of their previews.
pub(super) fn ports(app: &AppState, hub: &Hub, base_url: &str) -> Vec<PortView> {
    hub.ports().list().iter().map(|open| port_view(app, hub, base_url, open)).collect()
}

fn port_view(app: &AppState, hub: &Hub, base_url: &str, open: &OpenPort) -> PortView {
    let url = crate::http::preview_host(app, base_url, hub.branch(), open.port);
    PortView { port: open.port.get(), url }
}

impl Progress {
    /// Nothing but perch's own step is under way.
    fn is_short(&self) -> bool {
        self.state == Phase::InProgress && self.steps.len() == 1
    }
}

impl State {
    /// All steps are to be run; gives the number of this run.
    fn begin_steps(&mut self, of_file: Vec<Step>) -> u64 {
        let own = Step { name: "Look for the SDK's programs".to_owned(), command: CHECK.to_owned() };
        let steps = std::iter::once(own).chain(of_file);
        let steps = steps.map(|step| StepState { step, shell_id: None, finish_status: None }).collect();
        self.progress = Progress { state: Phase::InProgress, current_step_index: 0, steps };
        self.step_shells.clear();
        self.run += 1;
        self.run
    }
}

impl Board {
    fn progress(&self) -> Progress {
        self.state.lock().progress.clone()
    }

    /// Works on a step, if this run of the setup is the present one.
    fn with_step(&self, run: u64, index: usize, work: impl FnOnce(&mut State, usize)) -> bool {
        let mut state = self.state.lock();
        let is_present = state.run == run && index < state.progress.steps.len();
        if is_present {
            work(&mut state, index);
        }
        is_present
    }
}
