//! Which node owns which slots, as reported by the nodes (`CLUSTER NODES`). Does no I/O.

use std::collections::{BTreeMap, BTreeSet};

use super::layout::SLOTS;

/// A node as described by itself or by another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    id: String,
    /// `host:port`.
    pub address: String,
    /// The same with its IP address instead of a host name.
    number: String,
    /// Whether it is the node that was asked.
    pub myself: bool,
    pub primary: bool,
    /// Whether it is known to be down, or has no address yet.
    away: bool,
    /// The id of its primary, if it is a replica.
    of: Option<String>,
    /// The config epoch: of two nodes that claim a slot, the one with the higher epoch owns it.
    epoch: u64,
    /// Inclusive ranges.
    slots: Vec<(u16, u16)>,
    /// Slots that it is migrating away. A node reports only its own.
    pub leaving: BTreeSet<u16>,
    /// Slots that it is importing. A node reports only its own.
    pub coming: BTreeSet<u16>,
}

impl Node {
    /// Whether it owns a slot.
    fn has(&self, slot: u16) -> bool {
        self.primary
            && self
                .slots
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&slot))
    }
}

/// Parses the answer of `asked`, a host and port. `None` if the answer is invalid.
pub(super) fn parse(text: &str, asked: &str) -> Option<Vec<Node>> {
    let nodes: Vec<Node> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| node(line, asked))
        .collect::<Option<_>>()?;
    nodes.iter().any(|node| node.myself).then_some(nodes)
}

/// Two nodes of different clusters among those that answered, if there are any. Most nodes of one
/// cluster know each other's ids. A node that knows of no slots is not in a cluster yet.
pub(super) fn strangers(views: &[Vec<Node>]) -> Option<(&str, &str)> {
    let mut groups: Vec<(BTreeSet<&str>, &str)> = Vec::new();
    for view in views
        .iter()
        .filter(|view| view.iter().any(|node| !node.slots.is_empty()))
    {
        let mut ids: BTreeSet<&str> = view.iter().map(|node| node.id.as_str()).collect();
        let mut asked = view.iter().find(|node| node.myself)?.address.as_str();
        // This view may connect groups that were separate so far.
        let (same, others): (Vec<_>, Vec<_>) = groups
            .into_iter()
            .partition(|(known, _)| !known.is_disjoint(&ids));
        groups = others;
        for (known, first) in same.into_iter().rev() {
            ids.extend(known);
            asked = first;
        }
        groups.push((ids, asked));
    }
    groups.sort_by_key(|(_, asked)| *asked);
    match &groups[..] {
        [(_, one), (_, other), ..] => Some((one, other)),
        _ => None,
    }
}

fn node(line: &str, asked: &str) -> Option<Node> {
    let mut fields = line.split_ascii_whitespace();
    let id = fields.next()?.to_owned();
    let address = fields.next()?;
    let flags: BTreeSet<&str> = fields.next()?.split(',').collect();
    let of = fields.next().filter(|of| *of != "-").map(str::to_owned);
    let epoch = fields.nth(2)?.parse().ok()?;
    let mut node = Node {
        id,
        address: reached(address, asked)?,
        number: reached(address.split(',').next()?, asked)?,
        myself: flags.contains("myself"),
        primary: flags.contains("master"),
        away: ["fail", "fail?", "handshake", "noaddr"]
            .iter()
            .any(|flag| flags.contains(flag)),
        of,
        epoch,
        slots: Vec::new(),
        leaving: BTreeSet::new(),
        coming: BTreeSet::new(),
    };
    // The slots follow the state of the link.
    for slots in fields.skip(1) {
        let number = |text: &str| {
            text.parse::<u16>()
                .ok()
                .filter(|slot| usize::from(*slot) < SLOTS)
        };
        match slots.strip_prefix('[') {
            // `[93->-id]` is migrating out, `[93-<-id]` is being imported.
            Some(moving) => {
                let slots = if moving.contains("->-") {
                    &mut node.leaving
                } else {
                    &mut node.coming
                };
                slots.insert(number(moving.split('-').next()?)?);
            }
            None => {
                let (first, last) = slots.split_once('-').unwrap_or((slots, slots));
                node.slots.push((number(first)?, number(last)?));
            }
        }
    }
    Some(node)
}

/// `host:port` of `ip:port@busport[,hostname[,…]]`.
pub(super) fn reached(address: &str, asked: &str) -> Option<String> {
    let mut parts = address.split(',');
    let (host, port) = parts.next()?.split('@').next()?.rsplit_once(':')?;
    // Certificates are issued for the announced name, so it is preferred. A node that does not know
    // its own address is at the address where it was asked.
    let name = parts.next().filter(|name| !name.is_empty());
    let host = match name.unwrap_or(host) {
        "" => asked.rsplit_once(':')?.0.to_owned(),
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        host => host.to_owned(),
    };
    Some(format!("{host}:{port}"))
}

/// A node that owns slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Primary {
    pub address: String,
    /// How many replicas it has that are not known to be down.
    pub replicas: usize,
    /// Inclusive ranges, ascending and never adjacent.
    slots: Vec<(u16, u16)>,
}

/// Appends a range of slots, merging it with the last one if they are adjacent.
fn extend(ranges: &mut Vec<(u16, u16)>, (first, last): (u16, u16)) {
    match ranges.last_mut() {
        Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
        _ => ranges.push((first, last)),
    }
}

/// Which node owns which slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topology {
    pub primaries: Vec<Primary>,
    /// For each slot, the index of its owner in `primaries`.
    owners: Vec<Option<usize>>,
    /// The addresses of all nodes, primaries and others.
    pub addresses: BTreeSet<String>,
    /// The address of each node by its IP address and port.
    numbers: BTreeMap<String, String>,
}

impl Topology {
    /// Combines the views of several nodes. For each slot, the highest epoch wins.
    pub fn of(views: &[Vec<Node>]) -> Self {
        let mut latest: Vec<Option<&Node>> = vec![None; SLOTS];
        let mut replicas: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for node in views.iter().flatten() {
            for slot in node
                .slots
                .iter()
                .filter(|_| node.primary)
                .flat_map(|(first, last)| *first..=*last)
            {
                let known = &mut latest[usize::from(slot)];
                if known.is_none_or(|known| known.epoch < node.epoch) {
                    *known = Some(node);
                }
            }
            if let Some(of) = node.of.as_deref().filter(|_| !node.away) {
                replicas.entry(of).or_default().insert(&node.id);
            }
        }
        let mut primaries: Vec<Primary> = Vec::new();
        let owners = latest.into_iter().map(|node| {
            let node = node?;
            let known = primaries
                .iter()
                .position(|primary| primary.address == node.address);
            Some(known.unwrap_or_else(|| {
                let replicas = replicas.get(node.id.as_str()).map_or(0, BTreeSet::len);
                primaries.push(Primary {
                    address: node.address.clone(),
                    replicas,
                    slots: Vec::new(),
                });
                primaries.len() - 1
            }))
        });
        let owners: Vec<Option<usize>> = owners.collect();
        for (slot, owner) in (0..=u16::MAX).zip(&owners) {
            if let Some(primary) = owner.and_then(|owner| primaries.get_mut(owner)) {
                extend(&mut primary.slots, (slot, slot));
            }
        }
        let nodes = || views.iter().flatten();
        let addresses = nodes().map(|node| node.address.clone()).collect();
        let numbers = nodes()
            .map(|node| (node.number.clone(), node.address.clone()))
            .collect();
        Topology {
            primaries,
            owners,
            addresses,
            numbers,
        }
    }

    /// The address of a node by the name that another node uses for it. Nodes refer to each other
    /// by IP address, even if they announce names.
    pub fn address(&self, called: &str) -> Option<&str> {
        self.numbers
            .get(called)
            .or_else(|| self.addresses.get(called))
            .map(String::as_str)
    }

    /// The owner of a slot.
    pub fn owner(&self, slot: u16) -> Option<&Primary> {
        self.owners
            .get(usize::from(slot))
            .copied()
            .flatten()
            .and_then(|place| self.primaries.get(place))
    }

    /// Whether the slots that a primary reports are the slots known here.
    pub fn agrees(&self, primary: &Primary, own: &Node) -> bool {
        let mut slots = Vec::new();
        let mut told = own.slots.clone();
        told.sort_unstable();
        told.into_iter()
            .filter(|_| own.primary)
            .for_each(|range| extend(&mut slots, range));
        slots == primary.slots
    }

    /// Whether a primary reports something else about a slot than what is known here.
    pub fn is_disputed(&self, primary: &Primary, own: &Node, slot: u16) -> bool {
        own.has(slot) != self.owner(slot).is_some_and(|owner| owner == primary)
    }

    /// The first slot without an owner, and the number of such slots.
    pub fn uncovered(&self) -> Option<(usize, usize)> {
        let first = self.owners.iter().position(Option::is_none)?;
        Some((
            first,
            self.owners.iter().filter(|owner| owner.is_none()).count(),
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SEEN: &str = "\
aa 127.0.0.1:7001@17001,,shard-id=x myself,master - 0 0 1 connected 0-5460 [93->-bb] [94-<-cc]
bb 127.0.0.1:7002@17002,b.example master - 0 1 2 connected 5461-10922
cc ::1:7003@17003 master - 0 1 3 connected 10923-16382 16383
dd 127.0.0.1:7004@17004 slave aa 0 1 1 connected
ee 127.0.0.1:7005@17005 slave,fail bb 0 1 2 disconnected
";

    #[test]
    fn slots_have_owners_and_owners_replicas() {
        let view = parse(SEEN, "10.0.0.1:7001").unwrap();
        assert_eq!(
            (&view[0].leaving, &view[0].coming),
            (&[93].into(), &[94].into())
        );
        let topology = Topology::of(std::slice::from_ref(&view));
        let owner = |slot| {
            topology
                .owner(slot)
                .map(|primary| (primary.address.as_str(), primary.replicas))
        };
        assert_eq!(
            [0, 5461, 16_383].map(owner),
            [
                Some(("127.0.0.1:7001", 1)),
                Some(("b.example:7002", 0)),
                Some(("[::1]:7003", 0))
            ]
        );
        assert_eq!((topology.uncovered(), topology.addresses.len()), (None, 5));
        assert_eq!(
            ["127.0.0.1:7002", "b.example:7002", "h:1"].map(|called| topology.address(called)),
            {
                let announced = Some("b.example:7002");
                [announced, announced, None]
            }
        );
        let [a, b, c] = [0, 1, 2].map(|n| &topology.primaries[n]);
        assert!(
            topology.agrees(a, &view[0])
                && !topology.agrees(b, &view[0])
                && topology.agrees(c, &view[2])
        );
        let other = parse(&SEEN.replace("0-5460", "0-99 100-5459"), "h:1").unwrap();
        let split = parse(&SEEN.replace("0-5460", "100-5460 0-99"), "h:1").unwrap();
        assert!(!topology.agrees(a, &other[0]) && topology.agrees(a, &split[0]));
        let disputed: Vec<u16> = (0..16_384)
            .filter(|slot| topology.is_disputed(a, &other[0], *slot))
            .collect();
        assert_eq!(disputed, [5460]);
        assert!(topology.is_disputed(b, &other[0], 99) && !topology.is_disputed(a, &split[0], 99));
    }

    #[test]
    fn nodes_of_two_clusters_are_told_apart() {
        let one = parse(SEEN, "h:1").unwrap();
        let fewer: Vec<Node> = parse(SEEN, "h:1")
            .unwrap()
            .into_iter()
            .filter(|node| node.id != "cc")
            .collect();
        let text = "ff 10.0.0.9:7001@17001 myself,master - 0 0 1 connected 0-16383\n";
        let other = parse(text, "h:1").unwrap();
        let alone = parse(&text.replace(" 0-16383", "").replace("ff ", "gg "), "h:1").unwrap();
        assert_eq!(
            strangers(&[one.clone(), fewer.clone(), alone.clone()]),
            None,
            "a node outside of any cluster is ignored"
        );
        assert_eq!(
            strangers(&[other.clone(), one, alone, fewer]),
            Some(("10.0.0.9:7001", "127.0.0.1:7001"))
        );
        assert_eq!(strangers(&[other]), None);
    }

    #[test]
    fn the_later_owner_of_a_slot_is_right() {
        let before = parse(SEEN, "h:1").unwrap();
        let text = SEEN.replace(
            "slave aa 0 1 1 connected",
            "master - 0 1 4 connected 0-5460",
        );
        let after = parse(&text, "h:1").unwrap();
        for views in [[before.clone(), after.clone()], [after, before]] {
            assert_eq!(
                Topology::of(&views).owner(7).unwrap().address,
                "127.0.0.1:7004"
            );
        }
    }

    #[test]
    fn a_slot_without_an_owner_is_missed_and_a_node_without_an_address_is_where_it_was_asked() {
        let view = parse(
            "aa :7001@17001 myself,master - 0 0 1 connected 0-9 12-16383",
            "10.0.0.1:7001",
        )
        .unwrap();
        let topology = Topology::of(&[view]);
        assert_eq!(
            (topology.uncovered(), topology.primaries[0].address.as_str()),
            (Some((10, 2)), "10.0.0.1:7001")
        );
        for text in [
            "",
            "ERR",
            "aa 127.0.0.1:7001@17001 master - 0 0 1 connected 0-99999",
            "aa b c",
        ] {
            assert_eq!(parse(text, "h:1"), None, "{text}");
        }
    }
}
