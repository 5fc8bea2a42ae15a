//! What INFO, CLIENT LIST, CLIENT INFO and CONFIG GET tell about the listener, in the formats of
//! Redis 7.0. Fields for which there is no value here are left out or 0.

use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::access::CommandResult;
use super::command::VERSION;
use super::glob;
use super::reply::{Protocol, Reply};
use super::shared::{CLIENT_BYTES, Connection, Shared};
use crate::process::Process;
use crate::store::embedded::ReadTxn;

/// The names of sections that stand for all of them.
const ALL: [&str; 3] = ["all", "default", "everything"];

type Fields = Vec<(&'static str, String)>;

/// INFO, with the names of sections.
pub(super) fn info(shared: &Shared, names: &[&[u8]], txn: ReadTxn<'_>) -> CommandResult {
    let sections: [(&str, Fields); 6] = [
        ("Server", server(shared)),
        ("Clients", connections(shared)),
        ("Memory", memory(shared)),
        ("Persistence", persistence(shared)),
        ("Stats", stats(shared)),
        ("Keyspace", keyspace(txn)?),
    ];
    let is_wanted = |section: &str| {
        names.is_empty()
            || names.iter().any(|name| {
                let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
                is(section) || ALL.into_iter().any(is)
            })
    };
    let texts = sections.iter().filter(|(name, _)| is_wanted(name));
    let texts = texts.map(|(name, fields)| {
        let lines = fields
            .iter()
            .map(|(field, value)| format!("{field}:{value}\r\n"));
        format!("# {name}\r\n{}", lines.collect::<String>())
    });
    Ok(Reply::Text(texts.collect::<Vec<_>>().join("\r\n")))
}

fn server(shared: &Shared) -> Fields {
    let uptime = shared.started.elapsed().as_secs();
    vec![
        ("redis_version", VERSION.to_owned()),
        ("server_name", "cohortist".to_owned()),
        ("cohortist_version", env!("CARGO_PKG_VERSION").to_owned()),
        ("redis_mode", "standalone".to_owned()),
        ("process_id", std::process::id().to_string()),
        ("tcp_port", shared.port.to_string()),
        ("uptime_in_seconds", uptime.to_string()),
        ("uptime_in_days", (uptime / 86_400).to_string()),
    ]
}

fn connections(shared: &Shared) -> Fields {
    vec![
        ("connected_clients", shared.open.lock().len().to_string()),
        ("maxclients", shared.max_clients.to_string()),
        ("blocked_clients", "0".to_owned()),
        ("tracking_clients", "0".to_owned()),
    ]
}

/// The memory of the whole process. `maxmemory` is the share of requests that clients send.
fn memory(shared: &Shared) -> Fields {
    let mut fields = Vec::new();
    if let Some(process) = Process::now() {
        let (used, peak) = (process.resident_bytes, process.peak_bytes);
        fields.extend([
            ("used_memory", used.to_string()),
            ("used_memory_human", human(used)),
            ("used_memory_rss", used.to_string()),
            ("used_memory_rss_human", human(used)),
            ("used_memory_peak", peak.to_string()),
            ("used_memory_peak_human", human(peak)),
        ]);
    }
    let requests = shared.settings.memory.size();
    fields.extend([
        ("maxmemory", "0".to_owned()),
        ("maxmemory_human", "0B".to_owned()),
        ("maxmemory_policy", "noeviction".to_owned()),
        ("max_request_memory", requests.to_string()),
        ("mem_allocator", "jemalloc".to_owned()),
    ]);
    fields
}

/// Every change is in the log before it is answered, so nothing waits to be saved.
fn persistence(shared: &Shared) -> Fields {
    let is_ok = (shared.write_failure)().is_none();
    let status = if is_ok { "ok" } else { "err" };
    vec![
        ("loading", "0".to_owned()),
        ("async_loading", "0".to_owned()),
        ("rdb_changes_since_last_save", "0".to_owned()),
        ("rdb_bgsave_in_progress", "0".to_owned()),
        ("rdb_last_bgsave_status", status.to_owned()),
        ("aof_enabled", "1".to_owned()),
        ("aof_rewrite_in_progress", "0".to_owned()),
        ("aof_last_write_status", status.to_owned()),
    ]
}

fn stats(shared: &Shared) -> Fields {
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    vec![
        (
            "total_connections_received",
            count(&shared.connections).to_string(),
        ),
        (
            "total_commands_processed",
            count(&shared.commands).to_string(),
        ),
    ]
}

fn keyspace(txn: ReadTxn<'_>) -> Result<Fields, super::access::CommandError> {
    let keys = txn.keys()?.len();
    if keys == 0 {
        return Ok(Vec::new());
    }
    let expires = txn.expiring();
    let stats = format!("keys={keys},expires={expires},avg_ttl=0");
    Ok(vec![("db0", stats)])
}

/// A number of bytes as INFO prints it for people: `1.50M`.
fn human(bytes: u64) -> String {
    let mut whole = bytes;
    let mut scale = 1_u64;
    for unit in ["B", "K", "M", "G", "T"] {
        if whole < 1024 || unit == "T" {
            return match unit {
                "B" => format!("{bytes}B"),
                _ => {
                    let hundredths = u128::from(bytes) * 100 / u128::from(scale);
                    format!("{}.{:02}{unit}", hundredths / 100, hundredths % 100)
                }
            };
        }
        whole /= 1024;
        scale *= 1024;
    }
    unreachable!("the last unit takes every number")
}

/// CLIENT LIST: all clients, or those with these ids.
pub(super) fn clients(shared: &Shared, ids: Option<&[u64]>) -> String {
    // Cloned, so that new clients do not wait.
    let open = shared.open.lock().clone();
    let wanted = open
        .iter()
        .filter(|(id, _)| ids.is_none_or(|ids| ids.contains(id)));
    wanted
        .map(|(id, connection)| client(*id, connection))
        .collect()
}

/// A line of CLIENT LIST.
pub(super) fn client(id: u64, connection: &Connection) -> String {
    let activity = connection.activity().clone();
    let stream = &connection.stream;
    let address = |address: std::io::Result<std::net::SocketAddr>| {
        // A connection that was just closed has none.
        address.map_or("?:0".to_owned(), |address| address.to_string())
    };
    let now = Instant::now();
    let queued = activity.queued.map(|queued| queued.to_string());
    format!(
        "id={id} addr={} laddr={} fd={} name={} age={} idle={} flags={} db=0 sub=0 psub=0 ssub=0 multi={} \
         qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem={CLIENT_BYTES} \
         events=r cmd={} user=default redir=-1 resp={}\n",
        address(stream.peer_addr()),
        address(stream.local_addr()),
        stream.as_raw_fd(),
        String::from_utf8_lossy(&activity.name),
        now.saturating_duration_since(connection.opened).as_secs(),
        now.saturating_duration_since(activity.at).as_secs(),
        if queued.is_some() { "x" } else { "N" },
        queued.as_deref().unwrap_or("-1"),
        activity.command,
        match activity.protocol {
            Protocol::Two => 2,
            Protocol::Three => 3,
        },
    )
}

/// CONFIG GET: the settings of Redis that clients ask for, with the values that hold here.
pub(super) fn settings(shared: &Shared, patterns: &[&[u8]]) -> Reply {
    let connections = shared.max_clients.to_string();
    let settings = [
        ("appendonly", "yes"),
        ("databases", "1"),
        ("maxclients", &connections),
        ("maxmemory", "0"),
        ("maxmemory-policy", "noeviction"),
        ("proto-max-bulk-len", "134217728"),
        ("save", ""),
        ("timeout", "0"),
    ];
    let matching = settings.iter().filter(|(name, _)| {
        patterns.iter().any(|pattern| {
            let pattern = pattern.to_ascii_lowercase();
            glob::matches(&pattern, name.as_bytes())
        })
    });
    Reply::Map(
        matching
            .map(|(name, value)| (*name, Reply::bulk(*value)))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_two_decimals_and_the_largest_unit_that_fits() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00K"),
            (1 << 20, "1.00M"),
            (3 << 29, "1.50G"),
            (u64::MAX, "16777215.99T"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
