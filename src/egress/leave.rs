//! A way out for programs that know no proxy, such as ssh: `perch git-tunnel` as its `ProxyCommand`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::num::NonZeroU16;

/// Bytes of the proxy's answer.
const HEAD: u64 = 16 * 1024;

/// Carries standard input and output to a host, by the branch's proxy, until the host hangs up.
///
/// # Errors
/// What the proxy said, if it does not let it through.
pub fn leave(proxy: SocketAddr, host: &str, port: NonZeroU16) -> io::Result<()> {
    if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(io::Error::other("the host is malformed"));
    }
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let mut stream = TcpStream::connect(proxy)?;
    write!(stream, "CONNECT {bracketed}:{port} HTTP/1.1\r\nHost: {bracketed}:{port}\r\n\r\n")?;
    let mut far = BufReader::new(stream.try_clone()?);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if (&mut far).take(HEAD).read_until(b'\n', &mut head)? == 0 || head.len() as u64 > HEAD {
            return Err(io::Error::other("the branch's proxy gave no answer"));
        }
    }
    if !head.starts_with(b"HTTP/1.1 200") {
        let mut why = Vec::new();
        stream.shutdown(Shutdown::Write)?;
        // It says why, and how much that is.
        let length = String::from_utf8_lossy(&head).lines().find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length:")
                .and_then(|rest| rest.trim().parse().ok())
        });
        far.take(length.unwrap_or(0).min(HEAD)).read_to_end(&mut why)?;
        return Err(io::Error::other(String::from_utf8_lossy(&why).trim().to_owned()));
    }
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut stream);
        let _ = stream.shutdown(Shutdown::Write);
    });
    let mut out = io::stdout().lock();
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = far.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        out.write_all(&buffer[..read])?;
        out.flush()?;
    }
}
