//! A real Redis Cluster of a test's own: three primaries with a replica each.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cohortist::sets::Prefix;
use cohortist::store::Options;
use redis::{Connection, FromRedisValue, cmd};
use tempfile::TempDir;

use super::redis::signal;

/// What starts a node, says its process, and ends it when whoever holds the other end of its input
/// is gone, however that came about. `COHORTIST_TEST_REDIS_SERVER` may name another server, such as
/// `valkey-server`.
const KEEPER: &str = r#""${COHORTIST_TEST_REDIS_SERVER:-redis-server}" "$@" >/dev/null 2>&1 & echo $!; cat >/dev/null; kill -9 $! 2>/dev/null"#;

/// How long a primary may be away until its replica takes over, in milliseconds. Busy machines pause
/// processes for a second or two.
const NODE_TIMEOUT: u64 = 4_000;

/// The same in a cluster whose nodes no test ends.
const STEADY_NODE_TIMEOUT: u64 = 60_000;

struct Server {
    keeper: Child,
    process: u32,
    port: u16,
    /// Where it speaks TLS, if it does.
    tls_port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Six `redis-server`s on loopback ports of their own, killed on drop.
pub struct Cluster {
    servers: Vec<Server>,
    _directory: TempDir,
}

impl Cluster {
    pub fn start() -> Self {
        Cluster::start_with(false, NODE_TIMEOUT)
    }

    /// One whose nodes speak TLS, to each other and at [`tls_url`](Self::tls_url); without at their
    /// other ports.
    pub fn start_with_tls() -> Self {
        Cluster::start_with(true, NODE_TIMEOUT)
    }

    fn start_with(tls: bool, node_timeout: u64) -> Self {
        // A port may be taken by somebody else between the moment it is found free and its use.
        (0..5)
            .find_map(|_| Cluster::try_start(tls, node_timeout))
            .expect("a cluster of redis-server 7 is needed: apt-get install redis")
    }

    /// One for all tests that leave its nodes alone and use prefixes of their own; see
    /// [`own_prefix`].
    pub fn shared() -> &'static Cluster {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Cluster::start_with(false, STEADY_NODE_TIMEOUT))
    }

    fn try_start(tls: bool, node_timeout: u64) -> Option<Self> {
        let directory = TempDir::with_prefix("cluster-").unwrap();
        let held: Vec<TcpListener> = (0..18)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let ports: Vec<u16> = held
            .iter()
            .map(|listener| listener.local_addr().unwrap().port())
            .collect();
        drop(held);
        let start = |pair: &[u16]| {
            let [port, bus, tls_port] = [0, 1, 2].map(|n| pair[n].to_string());
            let timeout = node_timeout.to_string();
            let nodes = format!("nodes-{port}.conf");
            let mut keeper = Command::new("sh")
                .args([
                    "-c",
                    KEEPER,
                    "sh",
                    "--port",
                    &port,
                    "--cluster-port",
                    &bus,
                    "--bind",
                    "127.0.0.1",
                ])
                .args([
                    "--cluster-enabled",
                    "yes",
                    "--cluster-config-file",
                    &nodes,
                    "--cluster-node-timeout",
                    &timeout,
                ])
                .args([
                    "--save",
                    "",
                    "--appendonly",
                    "no",
                    "--repl-diskless-sync-delay",
                    "0",
                    "--dir",
                ])
                .arg(directory.path())
                .args(if tls {
                    tls_arguments(&tls_port)
                } else {
                    Vec::new()
                })
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut process = String::new();
            BufReader::new(keeper.stdout.take().unwrap())
                .read_line(&mut process)
                .unwrap();
            Server {
                keeper,
                process: process.trim().parse().unwrap(),
                port: pair[0],
                tls_port: pair[2],
            }
        };
        let servers: Vec<Server> = ports.chunks(3).map(start).collect();
        let cluster = Cluster {
            servers,
            _directory: directory,
        };
        for port in cluster.ports() {
            if !eventually(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()) {
                return None;
            }
        }
        let addresses: Vec<String> = cluster
            .ports()
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let made = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(addresses)
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .output()
            .unwrap();
        let ready = || cluster.ports().iter().all(|port| cluster.is_ready(*port));
        (made.status.success() && eventually(ready)).then_some(cluster)
    }

    fn is_ready(&self, port: u16) -> bool {
        let cluster: String = self.ask(port, &["CLUSTER", "INFO"]);
        let replication: String = self.ask(port, &["INFO", "replication"]);
        cluster.contains("cluster_state:ok")
            && (replication.contains("master_link_status:up")
                || replication.contains("state=online"))
    }

    pub fn ports(&self) -> Vec<u16> {
        self.servers.iter().map(|server| server.port).collect()
    }

    /// `redis-cluster://` with some of its nodes.
    pub fn url(&self) -> String {
        format!(
            "redis-cluster://127.0.0.1:{},127.0.0.1:{}",
            self.servers[0].port, self.servers[4].port
        )
    }

    /// `rediss-cluster://` with one of its nodes.
    pub fn tls_url(&self) -> String {
        format!("rediss-cluster://localhost:{}", self.servers[2].tls_port)
    }

    pub fn connection(&self, port: u16) -> Connection {
        redis::Client::open(format!("redis://127.0.0.1:{port}"))
            .unwrap()
            .get_connection()
            .unwrap()
    }

    /// Asks one node.
    pub fn ask<T: FromRedisValue>(&self, port: u16, command: &[&str]) -> T {
        cmd(command[0])
            .arg(&command[1..])
            .query(&mut self.connection(port))
            .unwrap()
    }

    /// The ports of the nodes that have slots, and their names, as a node sees it.
    pub fn primaries(&self, seen_by: u16) -> BTreeMap<u16, String> {
        let nodes: String = self.ask(seen_by, &["CLUSTER", "NODES"]);
        let lines = nodes
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>());
        let lines = lines.filter(|fields| {
            fields[2].contains("master") && !fields[2].contains("fail") && fields.len() > 8
        });
        let port = |address: &str| {
            address
                .split('@')
                .next()
                .unwrap()
                .rsplit(':')
                .next()
                .unwrap()
                .parse()
                .unwrap()
        };
        lines
            .map(|fields| (port(fields[1]), fields[0].to_owned()))
            .collect()
    }

    /// The port of the node that a key is on.
    pub fn owner(&self, key: &str, seen_by: u16) -> u16 {
        let slot: u16 = self.ask(seen_by, &["CLUSTER", "KEYSLOT", key]);
        let ranges: Vec<Vec<redis::Value>> = self.ask(seen_by, &["CLUSTER", "SLOTS"]);
        let number = |value: &redis::Value| u16::from_redis_value_ref(value).unwrap();
        let range = ranges
            .iter()
            .find(|range| (number(&range[0])..=number(&range[1])).contains(&slot))
            .unwrap();
        let node: Vec<redis::Value> = Vec::from_redis_value_ref(&range[2]).unwrap();
        number(&node[1])
    }

    /// The port of each primary's replica.
    pub fn replicas(&self) -> BTreeMap<u16, u16> {
        let of = |port: u16| {
            let role: Vec<redis::Value> = self.ask(port, &["ROLE"]);
            u16::from_redis_value_ref(&role[2])
                .ok()
                .filter(|_| role.len() == 5)
                .map(|primary| (primary, port))
        };
        self.ports().into_iter().filter_map(of).collect()
    }

    /// Kills a node; its data are gone.
    pub fn kill(&self, port: u16) {
        self.signal(port, "-KILL");
    }

    /// Sends a node's process a signal: `-STOP`, and it hangs; `-CONT`, and it goes on.
    pub fn signal(&self, port: u16, name: &str) {
        let server = self
            .servers
            .iter()
            .find(|server| server.port == port)
            .unwrap();
        signal(server.process, name);
    }

    /// How many commands of some kinds each primary has carried out.
    pub fn calls(&self, commands: &[&str]) -> BTreeMap<u16, u64> {
        let primaries = self.primaries(self.servers[0].port);
        let of = |port: u16| {
            let info: String = self.ask(port, &["INFO", "commandstats"]);
            let calls = |command: &&str| -> u64 {
                let line = info
                    .lines()
                    .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
                line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
            };
            commands.iter().map(calls).sum()
        };
        primaries.into_keys().map(|port| (port, of(port))).collect()
    }
}

fn tls_arguments(port: &str) -> Vec<String> {
    let fixture = |name: &str| format!("{}/tests/fixtures/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    let of = |name: &str, value: &str| [format!("--tls-{name}"), value.to_owned()];
    [
        of("port", port),
        of("cluster", "yes"),
        of("replication", "yes"),
        of("auth-clients", "no"),
        of("cert-file", &fixture("server.crt")),
        of("key-file", &fixture("server.key")),
        of("ca-cert-file", &fixture("ca.crt")),
    ]
    .concat()
}

/// Whether something that a cluster does by itself, such as a fail-over, comes true in time. A busy
/// machine delays votes, which are then repeated after several seconds.
pub fn eventually(check: impl Fn() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(180);
    while !check() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Options with a prefix nobody else has, and with time to spare.
pub fn own_prefix() -> Options {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let prefix = Prefix::new(&format!("t{}_", NEXT.fetch_add(1, Ordering::Relaxed)));
    Options {
        prefix,
        timeout: Duration::from_secs(30),
        ..Options::default()
    }
}
