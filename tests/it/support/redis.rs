//! A real redis-server of a test's own.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Options for a server that shares a busy machine: how long it may take is not what is tested.
pub fn patient() -> cohortist::store::Options {
    cohortist::store::Options {
        timeout: std::time::Duration::from_secs(60),
        ..Default::default()
    }
}

/// A `redis-server` on a Unix socket in a temporary directory, killed on drop.
pub struct RedisServer {
    child: Option<Child>,
    arguments: Vec<String>,
    password: Option<String>,
    directory: TempDir,
}

impl RedisServer {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With further arguments, such as `&["--requirepass", "secret"]`.
    pub fn start_with(arguments: &[&str]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        let password = arguments
            .iter()
            .position(|a| a == "--requirepass")
            .map(|at| arguments[at + 1].clone());
        let directory = TempDir::with_prefix("redis-").unwrap();
        let mut server = RedisServer {
            child: None,
            arguments,
            password,
            directory,
        };
        server.restart();
        server
    }

    fn socket(&self) -> String {
        self.directory
            .path()
            .join("redis.sock")
            .display()
            .to_string()
    }

    /// `redis+unix:///…`, without any password.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket())
    }

    /// A connection for raw commands.
    pub fn connection(&self) -> redis::Connection {
        let password = self
            .password
            .as_ref()
            .map(|p| format!("?pass={p}"))
            .unwrap_or_default();
        redis::Client::open(format!("{}{password}", self.url()))
            .unwrap()
            .get_connection()
            .unwrap()
    }

    /// All keys there are, sorted.
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = redis::cmd("KEYS")
            .arg("*")
            .query(&mut self.connection())
            .unwrap();
        keys.sort();
        keys
    }

    /// How often a command was carried out since the statistics were reset.
    pub fn calls(&self, command: &str) -> u64 {
        let info: String = redis::cmd("INFO")
            .arg("commandstats")
            .query(&mut self.connection())
            .unwrap();
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
    }

    pub fn reset_statistics(&self) {
        redis::cmd("CONFIG")
            .arg("RESETSTAT")
            .exec(&mut self.connection())
            .unwrap();
    }

    /// Closes the connections of all clients.
    pub fn disconnect(&self, asking: &mut redis::Connection) {
        redis::cmd("CLIENT")
            .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
            .exec(asking)
            .unwrap();
    }

    /// Kills the server; its data are gone.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it on the same socket, empty.
    pub fn restart(&mut self) {
        self.stop();
        let socket = self.socket();
        let _ = std::fs::remove_file(&socket);
        let child = Command::new("redis-server")
            .args([
                "--port",
                "0",
                "--save",
                "",
                "--appendonly",
                "no",
                "--unixsocket",
                &socket,
                "--dir",
            ])
            .arg(self.directory.path())
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is needed: apt-get install redis-server");
        self.child = Some(child);
        let end = Instant::now() + Duration::from_secs(60);
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < end, "redis-server did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops its clock: it neither answers nor goes away.
    pub fn pause(&self) {
        signal(self.id(), "-STOP");
    }

    pub fn resume(&self) {
        signal(self.id(), "-CONT");
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sends a process a signal, such as `-STOP`.
pub fn signal(process: u32, name: &str) {
    assert!(
        Command::new("kill")
            .args([name, &process.to_string()])
            .status()
            .unwrap()
            .success()
    );
}
