//! `healthcheck <address:port> <path>`: exit code 0 if HTTP there answers 200 within 2 s, 1 if not. The images have no shell and no client, and a container's health
//! must be asked from inside of it. The standard library alone: it is compiled by `rustc` where the image is built.

use std::{
    env,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(2);
const GOOD: [&[u8]; 2] = [b"HTTP/1.1 200 ", b"HTTP/1.0 200 "];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, path] = arguments.as_slice() else {
        eprintln!("usage: healthcheck <address:port> <path>");
        return ExitCode::from(2);
    };
    match answers_well(address, path) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("{address}{path}: not 200");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{address}{path}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the status of the answer is 200; its body is not read.
fn answers_well(address: &str, path: &str) -> io::Result<bool> {
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut status = [0; 13];
    stream.read_exact(&mut status)?;
    Ok(GOOD.contains(&&status[..]))
}
