//! `.codesandbox/tasks.json`: JSON with comments, written by people. What is wrong in it is told and left out; the rest
//! counts.

use jsonc_parser::ast::{Object, Value};
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde::Serialize;

/// Where it lies, from the workspace's root.
pub(super) const PATH: &str = ".codesandbox/tasks.json";
/// Its bytes; a longer one counts as empty.
pub(super) const MAX_BYTES: usize = 256 * 1024;
/// Tasks that count.
pub(super) const MAX_TASKS: usize = 64;
/// Setup steps that count.
pub(super) const MAX_STEPS: usize = 32;
/// Bytes of a command.
const MAX_COMMAND: usize = 32 * 1024;
/// Bytes of an id or a name.
const MAX_NAME: usize = 200;
/// Complaints that are told.
const MAX_ERRORS: usize = 20;

/// A step of the setup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) command: String,
}

/// How a task's port is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Preview {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<u16>,
    #[serde(rename = "pr-link", skip_serializing_if = "Option::is_none")]
    pub(super) pr_link: Option<String>,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Task {
    /// Its key in the file.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) command: String,
    pub(super) run_at_start: bool,
    pub(super) preview: Option<Preview>,
}

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TasksFile {
    pub(super) setup: Vec<Step>,
    /// In the order of the file.
    pub(super) tasks: Vec<Task>,
    /// What does not count, and why.
    pub(super) errors: Vec<String>,
}

/// A file that is there, but can't be used.
pub(super) fn unusable(why: &str) -> TasksFile {
    TasksFile { errors: vec![format!("{PATH} {why}")], ..TasksFile::default() }
}

/// Reads the file's bytes.
pub(super) fn parse(bytes: &[u8]) -> TasksFile {
    if bytes.len() > MAX_BYTES {
        return unusable(&format!("has more than {MAX_BYTES} bytes"));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return unusable("is not UTF-8") };
    let parsed = parse_to_ast(text, &CollectOptions::default(), &ParseOptions::default());
    let object = match parsed.map(|parsed| parsed.value) {
        Ok(Some(Value::Object(object))) => object,
        Ok(None) => return TasksFile::default(),
        Ok(Some(_)) => return unusable("is no object"),
        Err(error) => return unusable(&format!("can't be read: {error}")),
    };
    let mut file = TasksFile::default();
    match object.get("setupTasks").map(|property| &property.value) {
        None | Some(Value::NullKeyword(_)) => {}
        Some(Value::Array(steps)) => {
            for (number, step) in steps.elements.iter().enumerate() {
                file.step(number + 1, step);
            }
        }
        Some(_) => file.complain("`setupTasks` is no list"),
    }
    match object.get("tasks").map(|property| &property.value) {
        None | Some(Value::NullKeyword(_)) => {}
        Some(Value::Object(tasks)) => {
            for property in &tasks.properties {
                file.task(property.name.as_str(), &property.value);
            }
        }
        Some(_) => file.complain("`tasks` is no object"),
    }
    file
}

impl TasksFile {
    /// The task of an id.
    pub(super) fn task_of(&self, id: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.id == id)
    }

    fn complain(&mut self, what: impl Into<String>) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(what.into());
        }
    }

    fn step(&mut self, number: usize, value: &Value<'_>) {
        let command = match value {
            Value::StringLit(command) => Some(command.value.to_string()),
            Value::Object(step) => text(step, "command"),
            _ => None,
        };
        let Some(command) = command.filter(|command| is_command(command)) else {
            return self.complain(format!("setup task {number} has no usable `command`"));
        };
        let name = if let Value::Object(step) = value { text(step, "name") } else { None };
        let name = name.filter(|name| is_name(name)).unwrap_or_else(|| named_after(&command));
        if self.setup.len() >= MAX_STEPS {
            return self.complain(format!("setup task {number}: at most {MAX_STEPS} count"));
        }
        self.setup.push(Step { name, command });
    }

    fn task(&mut self, id: &str, value: &Value<'_>) {
        if !is_name(id) {
            return self
                .complain(format!("a task's id has 1 to {MAX_NAME} bytes without control characters"));
        }
        let Value::Object(task) = value else { return self.complain(format!("task `{id}` is no object")) };
        let Some(command) = text(task, "command").filter(|command| is_command(command)) else {
            return self.complain(format!("task `{id}` has no usable `command`"));
        };
        if self.task_of(id).is_some() {
            return self.complain(format!("task `{id}` is there twice"));
        }
        if self.tasks.len() >= MAX_TASKS {
            return self.complain(format!("task `{id}`: at most {MAX_TASKS} count"));
        }
        let name = text(task, "name").filter(|name| is_name(name)).unwrap_or_else(|| id.to_owned());
        let run_at_start =
            matches!(property(task, "runAtStart"), Some(Value::BooleanLit(literal)) if literal.value);
        let preview = match property(task, "preview") {
            Some(Value::Object(preview)) => Some(self.preview(id, preview)),
            _ => None,
        };
        self.tasks.push(Task { id: id.to_owned(), name, command, run_at_start, preview });
    }

    fn preview(&mut self, id: &str, preview: &Object<'_>) -> Preview {
        let port = match property(preview, "port") {
            Some(Value::NumberLit(number)) => number.value.parse::<u16>().ok().filter(|port| *port > 0),
            _ => None,
        };
        if port.is_none() && property(preview, "port").is_some() {
            self.complain(format!("task `{id}`: a port is 1 to 65535"));
        }
        let pr_link = text(preview, "pr-link");
        let pr_link = pr_link.filter(|link| ["direct", "redirect", "devtool"].contains(&link.as_str()));
        Preview { port, pr_link }
    }
}

fn property<'a, 'b>(object: &'b Object<'a>, name: &str) -> Option<&'b Value<'a>> {
    object.get(name).map(|property| &property.value)
}

fn text(object: &Object<'_>, name: &str) -> Option<String> {
    match property(object, name) {
        Some(Value::StringLit(text)) => Some(text.value.to_string()),
        _ => None,
    }
}

fn is_command(command: &str) -> bool {
    !command.trim().is_empty() && command.len() <= MAX_COMMAND && !command.contains('\0')
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && !name.contains(char::is_control)
}

/// The command's first line, as a name.
fn named_after(command: &str) -> String {
    let line = command.trim().lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn comments_trailing_commas_and_both_kinds_of_steps_are_read() {
        let file = parse(
            br#"{
            // These tasks will run in order when initializing your project.
            "setupTasks": ["npm install", { "name": "Build it", "command": "make" }, 7, { "name": "x" }],
            /* the rest */
            "tasks": {
                "dev": { "name": "Dev server", "command": "npm run dev", "runAtStart": true,
                    "preview": { "port": 3000, "pr-link": "direct" }, },
                "b": { "command": "b", "preview": { "port": 70000, "pr-link": "no" } },
                "a": "not a task",
                "dev": { "command": "again" },
            },
        }"#,
        );
        let step = |name: &str, command: &str| Step { name: name.into(), command: command.into() };
        assert_eq!(file.setup, [step("npm install", "npm install"), step("Build it", "make")]);
        let ids: Vec<_> = file.tasks.iter().map(|task| task.id.as_str()).collect();
        assert_eq!(ids, ["dev", "b"], "in the order of the file");
        let dev = file.task_of("dev").unwrap();
        assert!(dev.run_at_start && dev.command == "npm run dev" && dev.name == "Dev server");
        assert_eq!(dev.preview, Some(Preview { port: Some(3000), pr_link: Some("direct".into()) }));
        assert_eq!((file.tasks[1].name.as_str(), &file.tasks[1].preview), ("b", &Some(Preview::default())));
        assert_eq!(file.errors.len(), 5, "{:?}", file.errors);
    }

    #[test]
    fn what_is_no_such_file_is_told_and_bounds_hold() {
        for bad in ["[]", "{", "\u{feff}{\"tasks\": []}x", "{\"tasks\": 1}", "\"text\""] {
            let file = parse(bad.as_bytes());
            assert!(file.tasks.is_empty() && !file.errors.is_empty(), "{bad}");
        }
        assert!(!parse(b"\xff").errors.is_empty());
        assert!(parse(b"").errors.is_empty() && parse(b" // nothing\n").errors.is_empty());
        assert!(!parse(&vec![b' '; MAX_BYTES + 1]).errors.is_empty());
        assert!(!parse("[".repeat(MAX_BYTES).as_bytes()).errors.is_empty(), "depth");
        let many: String = (0..100).map(|n| format!("\"t{n}\": {{\"command\": \"x\"}},")).collect();
        let steps = "\"x\",".repeat(100);
        let file = parse(format!("{{\"tasks\": {{{many}}}, \"setupTasks\": [{steps}]}}").as_bytes());
        assert_eq!(
            (file.tasks.len(), file.setup.len(), file.errors.len()),
            (MAX_TASKS, MAX_STEPS, MAX_ERRORS)
        );
        let long = format!("{{\"setupTasks\": [\"{}\", \"a\\u0000b\", \"\"]}}", "x".repeat(MAX_COMMAND + 1));
        assert!(parse(long.as_bytes()).setup.is_empty());
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i32>().prop_map(Into::into),
            "\\PC{0,12}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            let name = prop_oneof![
                Just("tasks".to_owned()),
                Just("setupTasks".to_owned()),
                Just("command".to_owned()),
                Just("name".to_owned()),
                Just("preview".to_owned()),
                Just("port".to_owned()),
                "\\PC{0,6}",
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::vec((name, inner), 0..6)
                    .prop_map(|all| serde_json::Value::Object(all.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_shape_makes_it_fail_or_breaks_a_bound(json in any_json(), tasks in any_json(), steps in any_json()) {
            let _ = parse(json.to_string().as_bytes());
            let file = parse(serde_json::json!({ "tasks": tasks, "setupTasks": steps }).to_string().as_bytes());
            for task in &file.tasks {
                prop_assert!(is_name(&task.id) && is_name(&task.name) && is_command(&task.command));
            }
            prop_assert!(file.setup.iter().all(|step| is_command(&step.command) && step.name.len() <= 4 * 60));
        }

        #[test]
        fn what_is_written_is_read(names in prop::collection::btree_map("[a-z]{1,8}", "\\PC{1,40}", 0..10)) {
            let names: std::collections::BTreeMap<_, _> =
                names.into_iter().filter(|(_, command)| is_command(command)).collect();
            let tasks: serde_json::Map<_, _> = names
                .iter()
                .map(|(id, command)| (id.clone(), serde_json::json!({ "command": command })))
                .collect();
            let file = parse(serde_json::json!({ "tasks": tasks }).to_string().as_bytes());
            let read: std::collections::BTreeMap<_, _> =
                file.tasks.into_iter().map(|task| (task.id, task.command)).collect();
            prop_assert_eq!(read, names);
            prop_assert!(file.errors.is_empty());
        }
    }
}
