//! The real program, run in a directory of its own.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// When the program runs: on a Monday.
const NOW: &str = "2026-11-23T14:05:00Z";

/// A directory with a store, and the program in it.
pub struct Shop {
    directory: tempfile::TempDir,
}

/// How a run ended.
pub struct Ran {
    pub code: i32,
    pub out: String,
    /// What it said on stderr, but for the line on where its store is.
    pub err: String,
    /// That line: `/tmp/x/cohortist.db, created`.
    pub store: Option<String>,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let err = String::from_utf8(output.stderr).unwrap();
        let (store, err): (Vec<&str>, Vec<&str>) = err
            .split_inclusive('\n')
            .partition(|line| line.starts_with("store: "));
        Ran {
            store: store
                .first()
                .map(|line| line.trim_start_matches("store: ").trim_end().to_owned()),
            code: output.status.code().expect("it was not killed"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: err.concat(),
        }
    }
}

impl Ran {
    /// Its output, after checking that it succeeded without a word on stderr.
    pub fn quietly(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    /// Its output, after checking that it succeeded.
    pub fn done(self) -> String {
        assert_eq!(self.code, 0, "{}", self.err);
        self.out
    }

    /// Its one error, after checking the code, and that it is an error as promised: no panic, no
    /// debug dump.
    pub fn error(self, code: i32) -> String {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{}", self.err);
        assert!(
            self.err.starts_with("error: ") || self.err.contains("\nerror: "),
            "{}",
            self.err
        );
        for ugly in ["panicked", "RUST_BACKTRACE", "Some(", "Error {", "Err("] {
            assert!(!self.err.contains(ugly), "{}", self.err);
        }
        self.err
    }
}

impl Shop {
    pub fn new() -> Self {
        Shop {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// Marks `active` on five days up to the tests' *now*. After a long gap, `expire` trusts the
    /// clock only if that many days have marks.
    pub fn mark_five_days(&self) {
        for day in 19..=23 {
            let at = format!("2026-11-{day}");
            self.run(&["mark", "active", "1", "--at", &at]).done();
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), content).unwrap();
        name.to_owned()
    }

    /// The program, on this shop's store, at 14:05 on Monday 23 November 2026.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = program();
        command
            .args(args)
            .current_dir(self.directory.path())
            .env("COHORTIST_NOW", NOW);
        command
    }

    /// The program, with system calls that fail or kill it as these options of `strace` say.
    pub fn traced(&self, options: &[&str], args: &[&str]) -> Command {
        let mut command = self.inside(Command::new("strace"));
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("COHORTIST_"))
        {
            command.env_remove(name);
        }
        command
            .env("COHORTIST_NOW", NOW)
            .args(["-f", "-qq", "-o", "/dev/null"])
            .args(options);
        command.arg(program().get_program()).args(args);
        command
    }

    /// A command in this shop, at the same time.
    pub fn inside(&self, mut command: Command) -> Command {
        command
            .current_dir(self.directory.path())
            .env("COHORTIST_NOW", NOW);
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }

    pub fn pipe(&self, args: &[&str], stdin: &[u8]) -> Ran {
        let mut child = self.start(args);
        let mut pipe = child.stdin.take().unwrap();
        // It may well stop reading: a file that is no good is not read to its end.
        let _ = pipe.write_all(stdin);
        drop(pipe);
        child.wait_with_output().unwrap().into()
    }

    pub fn start(&self, args: &[&str]) -> Child {
        piped(&mut self.command(args))
    }
}

fn piped(command: &mut Command) -> Child {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The program with none of its variables set.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cohortist"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("COHORTIST_") {
            command.env_remove(name);
        }
    }
    command
}

/// A server under way; it ends with the test.
pub struct Serving {
    child: Child,
    pub address: String,
    /// What it wrote to stderr since it listens.
    log: Arc<(Mutex<String>, Condvar)>,
}

impl Serving {
    pub fn start(shop: &Shop, args: &[&str]) -> Self {
        Self::saying(shop, args, "").0
    }

    /// The server that a command starts.
    pub fn of(command: &mut Command) -> Self {
        Self::spawned(command, "").0
    }

    /// Also answers what follows `words` in the line that begins with them; they come before the
    /// address.
    pub fn saying(shop: &Shop, args: &[&str], words: &str) -> (Self, String) {
        Self::spawned(&mut shop.command(args), words)
    }

    /// Likewise, of any command.
    pub fn spawned(command: &mut Command, words: &str) -> (Self, String) {
        let mut child = piped(command);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let mut before = Vec::new();
        let address = lines.by_ref().find_map(|line| {
            let line = line.ok()?;
            if let Some(rest) = line.strip_prefix(words).filter(|_| !words.is_empty()) {
                said = rest.to_owned();
            }
            let address = line
                .strip_prefix("cohortist is listening on http://")
                .map(str::to_owned);
            before.push(line);
            address
        });
        // Its stderr is read to the end, so that it never waits for a reader.
        let log = Arc::new((Mutex::new(String::new()), Condvar::new()));
        std::thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in lines.map_while(Result::ok) {
                    let mut text = log.0.lock().unwrap();
                    text.push_str(&line);
                    text.push('\n');
                    log.1.notify_all();
                }
            }
        });
        let address =
            address.unwrap_or_else(|| panic!("it says where it listens, but said {before:?}"));
        (
            Serving {
                address,
                child,
                log,
            },
            said,
        )
    }

    /// What it has logged since it listens.
    pub fn log(&self) -> String {
        self.log.0.lock().unwrap().clone()
    }

    /// Waits until it has logged some words, and says all that it has logged by then.
    pub fn says(&self, words: &str) -> String {
        self.says_times(words, 1)
    }

    /// Waits until it has logged some words so often.
    pub fn says_times(&self, words: &str, times: usize) -> String {
        let text = self.log.0.lock().unwrap();
        let waited = self
            .log
            .1
            .wait_timeout_while(text, Duration::from_secs(60), |text| {
                text.matches(words).count() < times
            });
        let (text, timeout) = waited.unwrap();
        assert!(
            !timeout.timed_out(),
            "it does not say {words:?} {times} times: {text}"
        );
        text.clone()
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and says how it did.
    pub fn stop(mut self) -> std::process::ExitStatus {
        crate::support::redis::signal(self.id(), "-TERM");
        let until = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            let log = self.log();
            assert!(std::time::Instant::now() < until, "it does not end: {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn get(&self, path: &str) -> String {
        ureq::get(format!("http://{}{path}", self.address))
            .call()
            .unwrap()
            .body_mut()
            .read_to_string()
            .unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
