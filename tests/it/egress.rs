//! Real programs in a branch's network, with the variables that its shells have. Needs to be root.

use perch::base::Tasks;
use perch::egress::{Options, Target, environment, open};
use perch::sandbox::{Network, Reach};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::process::Command;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A service of the host that answers every connection with its name.
async fn service(tasks: &Tasks, address: &str, name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind(address).await.unwrap();
    let at = listener.local_addr().unwrap();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{name}",
                name.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    at
}

/// Runs a program inside, as a shell of the branch would.
async fn inside(network: &Network, line: &[&str]) -> (i32, String) {
    let namespace = network.namespace().unwrap().as_raw_fd();
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{}/fd/{namespace}", std::process::id())).args(line);
    command.envs(environment(network));
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_of_a_branch_reach_each_other_and_what_is_allowed() {
    let (tasks, stop) = (Tasks::new(), CancellationToken::new());
    // Not 127.0.0.1: that is the branch's own, to which programs connect themselves.
    let git_lan = service(&tasks, "127.0.0.2:0", "git.lan").await;
    let perch = service(&tasks, "0.0.0.0:0", "perch").await;
    let secret = service(&tasks, "0.0.0.0:0", "secret").await;
    let options = Options {
        reach: Reach::Outbound,
        // The second one by mistake.
        allow: vec![Target::from(git_lan), format!("localhost:{}", perch.port()).parse().unwrap()],
        never: vec![Target::from(perch)],
    };
    let (one, other) = (
        open(&options, &tasks, stop.clone()).await.unwrap(),
        open(&options, &tasks, stop.clone()).await.unwrap(),
    );
    let get = |url: String| ["curl", "-sS", "-m", "20", "-w", " %{http_code}", url.leak()];
    assert_eq!(inside(&one, &get(format!("http://{git_lan}/"))).await, (0, "git.lan 200".into()));
    let tunnel = ["curl", "-sS", "-p", "-m", "20", &*format!("http://{git_lan}/").leak()];
    assert_eq!(inside(&one, &tunnel).await, (0, "git.lan".into()), "by CONNECT");
    // Names for the host other than those that NO_PROXY keeps from the proxy.
    let own =
        Command::new("hostname").output().map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
    let mut names = vec!["127.0.0.2".to_owned(), "0.0.0.0".into(), "[::ffff:127.0.0.1]".into()];
    names.extend(own.ok().filter(|name| !name.is_empty()));
    for name in names {
        for port in [perch.port(), secret.port()] {
            let (_, said) = inside(&one, &get(format!("http://{name}:{port}/"))).await;
            assert!(said.ends_with(" 403"), "{name}:{port} {said}");
            let proxy =
                ["curl", "-sS", "-m", "20", "--noproxy", "", "-p", &*format!("http://{name}:{port}/").leak()];
            let (code, said) = inside(&one, &proxy).await;
            assert!(code != 0 && said.contains("403"), "{name}:{port} {said}");
        }
    }
    let forced =
        ["curl", "-sS", "-m", "20", "--noproxy", "", &*format!("http://localhost:{}/", perch.port()).leak()];
    let (_, said) = inside(&one, &forced).await;
    assert!(said.contains("may never reach"), "{said}");

    // A server of the branch: its sessions reach it without the proxy, another branch's do not.
    let served = tempfile::tempdir().unwrap();
    std::fs::write(served.path().join("a.txt"), "of one").unwrap();
    let namespace = one.namespace().unwrap().as_raw_fd();
    let mut server = Command::new("nsenter")
        .arg(format!("--net=/proc/{}/fd/{namespace}", std::process::id()))
        .args(["python3", "-m", "http.server", "3000", "-d"])
        .arg(served.path())
        .spawn()
        .unwrap();
    let port = 3000.try_into().unwrap();
    let mut tries = 0;
    while one.connect(port).await.is_err() {
        tries += 1;
        assert!(tries < 500, "it listens");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for host in ["localhost", "127.0.0.1"] {
        assert_eq!(inside(&one, &get(format!("http://{host}:3000/a.txt"))).await, (0, "of one 200".into()));
        let (code, said) = inside(&other, &get(format!("http://{host}:3000/a.txt"))).await;
        assert_eq!(code, 7, "nothing listens there: {said}");
    }
    assert!(other.connect(port).await.is_err());
    server.kill().unwrap();
    server.wait().unwrap();
}
