//! What stands between the program and a server, and can hold what passes, so that a test steps a
//! server instead of timing it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How long a test waits for what must happen before it fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// Passes bytes between clients and a server.
pub struct Proxy {
    port: u16,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    /// How many connections were made so far.
    connections: usize,
    /// Connections of a lower number are cut off without a word: what is sent on them goes nowhere.
    cut_below: usize,
    /// Requests that hold these bytes wait, and all that comes after them on their connection.
    held: Option<Vec<u8>>,
    /// How many such requests may still pass.
    allowed: usize,
    /// How many wait.
    waiting: usize,
}

impl Proxy {
    /// In front of the server at `redis+unix:///…`.
    pub fn before(url: &str) -> Self {
        let socket = url.strip_prefix("redis+unix://").unwrap().to_owned();
        Proxy::between(move || {
            let server = UnixStream::connect(&socket).ok()?;
            Some((server.try_clone().ok()?, server))
        })
    }

    /// In front of the server at a port of this machine.
    pub fn before_port(port: u16) -> Self {
        Proxy::between(move || {
            let server = TcpStream::connect(("127.0.0.1", port)).ok()?;
            Some((server.try_clone().ok()?, server))
        })
    }

    fn between<S: Side + 'static>(connect: impl Fn() -> Option<(S, S)> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let gate = Arc::<Gate>::default();
        std::thread::spawn({
            let gate = Arc::clone(&gate);
            move || {
                for client in listener.incoming() {
                    let client = client.unwrap();
                    let Some((server, to)) = connect() else {
                        continue;
                    };
                    let number = {
                        let mut state = gate.state.lock().unwrap();
                        state.connections += 1;
                        state.connections - 1
                    };
                    gate.moved.notify_all();
                    let from = client.try_clone().unwrap();
                    let at = Arc::clone(&gate);
                    std::thread::spawn(move || {
                        // What is looked for may come in two pieces.
                        let mut end = Vec::new();
                        pass(from, to, |bytes| at.enter(number, &mut end, bytes));
                    });
                    let at = Arc::clone(&gate);
                    std::thread::spawn(move || pass(server, client, |_| !at.is_cut(number)));
                }
            }
        });
        Proxy { port, gate }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// How many connections were made through it.
    pub fn connections(&self) -> usize {
        self.gate.state.lock().unwrap().connections
    }

    /// Cuts off every connection there is without a word, as a NAT does that forgets them.
    pub fn cut(&self) {
        let mut state = self.gate.state.lock().unwrap();
        state.cut_below = state.connections;
        self.gate.moved.notify_all();
    }

    /// From now on requests that hold `bytes` pass only where [`allow`](Self::allow) lets them.
    pub fn hold(&self, bytes: &[u8]) {
        self.gate.state.lock().unwrap().held = Some(bytes.to_vec());
    }

    /// Lets so many more held requests pass.
    pub fn allow(&self, requests: usize) {
        self.gate.state.lock().unwrap().allowed += requests;
        self.gate.moved.notify_all();
    }

    /// Lets the next held request pass, and waits until another one is held.
    pub fn step(&self) {
        self.wait("request to be held", |state| state.waiting > 0);
        self.allow(1);
        self.wait("next request to be held", |state| {
            state.allowed == 0 && state.waiting > 0
        });
    }

    /// Holds nothing any more.
    pub fn release(&self) {
        self.gate.state.lock().unwrap().held = None;
        self.gate.moved.notify_all();
    }

    /// Waits until so many requests are held at once.
    pub fn wait_for_held(&self, requests: usize) {
        self.wait("requests to be held", |state| state.waiting >= requests);
    }

    fn wait(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let state = self.gate.state.lock().unwrap();
        let (state, waited) = self
            .gate
            .moved
            .wait_timeout_while(state, PATIENCE, |state| !is_so(state))
            .unwrap();
        assert!(!waited.timed_out(), "no {what}: {} wait", state.waiting);
    }
}

impl Gate {
    fn is_cut(&self, connection: usize) -> bool {
        connection < self.state.lock().unwrap().cut_below
    }

    /// Waits until the bytes may pass; whether they do.
    fn enter(&self, connection: usize, end: &mut Vec<u8>, bytes: &[u8]) -> bool {
        let mut state = self.state.lock().unwrap();
        end.extend_from_slice(bytes);
        let is_held = |state: &State| {
            connection >= state.cut_below
                && state.held.as_ref().is_some_and(|held| contains(end, held))
        };
        if is_held(&state) {
            state.waiting += 1;
            self.moved.notify_all();
            state = self
                .moved
                .wait_while(state, |state| is_held(state) && state.allowed == 0)
                .unwrap();
            state.waiting -= 1;
            if is_held(&state) {
                state.allowed -= 1;
            }
            self.moved.notify_all();
        }
        let kept = state
            .held
            .as_ref()
            .map_or(0, |held| held.len() - 1)
            .min(end.len());
        end.drain(..end.len() - kept);
        connection >= state.cut_below
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

trait Side: Read + Write + Send {
    fn close(&self);
}

impl Side for TcpStream {
    fn close(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Side for UnixStream {
    fn close(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

/// Passes on what may pass, until one side goes.
fn pass(mut from: impl Side, mut to: impl Side, mut may_pass: impl FnMut(&[u8]) -> bool) {
    let mut bytes = vec![0; 1 << 16];
    loop {
        match from.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(read) if may_pass(&bytes[..read]) => {
                if to.write_all(&bytes[..read]).is_err() {
                    break;
                }
            }
            Ok(_) => {}
        }
    }
    from.close();
    to.close();
}
