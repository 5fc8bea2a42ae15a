//! Recovers what can be read of a damaged store, for `--accept-loss`, and lists what cannot.
//!
//! The list is stored in the manifest, so that later starts need no flag and still report it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::store::embedded::directory::{cannot_open, unnamed_logs};
use crate::store::embedded::id_entries::{self, IdEntry};
use crate::store::embedded::log_files::log_files;
use crate::store::embedded::overlay::EMPTY;
use crate::store::embedded::record::Record;
use crate::store::embedded::table::packed::Packed;
use crate::store::embedded::table::segment::{self, Segment, SegmentInfo, Writer};
use crate::store::embedded::table::{
    EXPIRY, Entry, KEY, Manifest, PRESENT, TILE, Table, Version, contents, entry_key, new_store,
    record_number, sync_directory, tile_key, tile_of,
};
use crate::store::embedded::table_cache::expiry_entry;
use crate::store::embedded::wal;
use crate::store::{Result, StoreError};

/// Builds a manifest from the existing files, to replace one that is missing or damaged.
pub fn manifest(directory: &Path, error: Option<StoreError>) -> Result<Manifest> {
    let mut losses = vec![match error {
        Some(error) => error.to_string(),
        None => "the manifest was missing".to_owned(),
    }];
    let segments = open_segments(directory, &mut losses)?;
    let infos: Vec<SegmentInfo> = segments
        .iter()
        .map(|segment| segment.info().clone())
        .collect();
    let logs = log_files(directory).map_err(|error| cannot_open(directory, &error))?;
    let store = segments.first().map(Segment::store);
    let store = store
        .or_else(|| logs.iter().find_map(|(_, path)| wal::store_of(path)))
        .unwrap_or_else(new_store);
    let manifest = Manifest {
        store,
        sequence: infos.last().map_or(0, |info| info.sequence),
        next_key: next_key(&segments),
        next_segment: infos.iter().map(|info| info.number + 1).max().unwrap_or(1),
        segments: infos,
        logs: logs.into_iter().map(|(number, _)| number).collect(),
        losses,
        ..Manifest::default()
    };
    manifest
        .write(directory)
        .map_err(|error| StoreError::write(directory, &error))?;
    Ok(manifest)
}

/// Opens all segments in a directory, from the oldest to the newest. Adds those that cannot be
/// opened to `losses`.
fn open_segments(directory: &Path, losses: &mut Vec<String>) -> Result<Vec<Segment>> {
    let entries = fs::read_dir(directory).map_err(|error| cannot_open(directory, &error))?;
    let mut segments: Vec<Segment> = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().and_then(segment::number_of).is_none() {
            continue;
        }
        match Segment::open_any(&entry.path()) {
            Ok(segment) => segments.push(segment),
            Err(error) => losses.push(error.to_string()),
        }
    }
    // A merged segment has the sequence of the newest segment in it, and a greater number.
    segments.sort_by_key(|segment| (segment.info().sequence, segment.info().number));
    Ok(segments)
}

/// Adds the logs that are newer than a manifest to it.
pub fn logs(directory: &Path, mut manifest: Manifest, error: &StoreError) -> Result<Manifest> {
    manifest.logs.extend(unnamed_logs(directory, &manifest)?);
    manifest.closed_at = None;
    manifest.losses.push(error.to_string());
    manifest
        .write(directory)
        .map_err(|error| StoreError::write(directory, &error))?;
    Ok(manifest)
}

/// Returns a number greater than that of any bitmap that these segments contain or whose removal
/// they contain.
fn next_key(segments: &[Segment]) -> u64 {
    let blocks = segments
        .iter()
        .flat_map(|segment| (0..segment.blocks()).filter_map(|number| segment.read(number).ok()));
    let mut next = 0;
    for block in blocks {
        for at in 0..block.len() {
            let key = block.key(at);
            // A bitmap without users has a record but no tiles.
            let number = if key.first() == Some(&KEY) {
                record_number(block.value(at))
            } else {
                tile_of(key).map(|(number, _)| number)
            };
            if let Some(number) = number {
                next = next.max(u64::from(number) + 1);
            }
        }
    }
    next
}

/// Replaces missing or damaged segments with what can be read of them, and makes records and tiles
/// agree. A manifest whose segments are intact stays unchanged.
pub fn segments(directory: &Path, manifest: Manifest) -> Result<Manifest> {
    let mut manifest = manifest;
    let mut losses = Vec::new();
    let mut readable: Vec<SegmentInfo> = Vec::new();
    for info in manifest.segments.clone() {
        match readable_segment(directory, &mut manifest, &info, &mut losses)? {
            Some(info) => readable.push(info),
            None => losses.push(format!("segment-{} with all it held", info.number)),
        }
    }
    let are_intact = losses.is_empty();
    if !are_intact {
        manifest.segments = readable;
        manifest.losses.append(&mut losses);
        manifest
            .write(directory)
            .map_err(|error| StoreError::write(directory, &error))?;
    }
    let table = Table::open(directory, manifest.clone(), 1 << 20)?;
    let version = table.version();
    if are_intact && version.check().is_ok() {
        return Ok(manifest);
    }
    let entries = reconcile(&version, &mut losses)?;
    let sequence = manifest.sequence;
    table.add(entries.into_iter().map(Ok), sequence, |manifest| {
        manifest.losses.append(&mut losses)
    })?;
    Ok(table.manifest())
}

/// Returns the segment itself if it is intact, a new segment with what can be read of it, or
/// `None`.
fn readable_segment(
    directory: &Path,
    manifest: &mut Manifest,
    info: &SegmentInfo,
    losses: &mut Vec<String>,
) -> Result<Option<SegmentInfo>> {
    let path = directory.join(segment::file_name(info.number));
    let segment = match Segment::open(&path, manifest.store, info) {
        Ok(segment) => segment,
        Err(error) => {
            losses.push(error.to_string());
            return Ok(None);
        }
    };
    let damaged: Vec<StoreError> = (0..segment.blocks())
        .filter_map(|number| segment.read(number).err())
        .collect();
    if damaged.is_empty() {
        return Ok(Some(info.clone()));
    }
    losses.extend(damaged.iter().map(ToString::to_string));
    let number = manifest.next_segment;
    manifest.next_segment += 1;
    let path = directory.join(segment::file_name(number));
    let failed = |error: &std::io::Error| StoreError::write(&path, error);
    let mut writer =
        Writer::create(&path, manifest.store, number).map_err(|error| failed(&error))?;
    for block in (0..segment.blocks()).filter_map(|number| segment.read(number).ok()) {
        for at in 0..block.len() {
            writer
                .add(block.key(at), block.value(at))
                .map_err(|error| failed(&error))?;
        }
    }
    let info = writer
        .finish(info.sequence)
        .map_err(|error| failed(&error))?;
    sync_directory(directory);
    Ok(Some(info))
}

/// Returns what must be written so that each record names the tiles that exist, with the number of
/// users they have.
fn reconcile(version: &Arc<Version>, losses: &mut Vec<String>) -> Result<Vec<Entry>> {
    let mut records: Vec<(String, Record)> = Vec::new();
    let mut tiles: BTreeMap<(u32, u16), u64> = BTreeMap::new();
    let mut unreadable: Vec<Entry> = Vec::new();
    let mut merge = version.merge(&[])?;
    while let Some(entry) = merge.next()? {
        match entry.key.first() {
            Some(&KEY) => {
                let key = std::str::from_utf8(&entry.key[1..]);
                let record = Record::read(contents(&entry.value));
                if let (Ok(key), Some(record)) = (key, record) {
                    records.push((key.to_owned(), record));
                }
            }
            Some(&TILE) => {
                let numbers = tile_of(&entry.key);
                let tile = Packed::read(&entry.value);
                if let (Some(numbers), Some(Packed::Whole(tile))) = (numbers, tile) {
                    tiles.insert(numbers, tile.len());
                }
            }
            Some(&EXPIRY) if expiry_entry(&entry.key[1..], contents(&entry.value)).is_none() => {
                losses.push("when one bitmap expires".to_owned());
                unreadable.push((entry.key.clone(), None));
            }
            _ => {}
        }
    }
    let mut entries: Vec<Entry> = reconcile_ids(version, &records, losses)?;
    entries.append(&mut unreadable);
    for (key, record) in records {
        let found: Vec<(u16, u64)> = record
            .tiles
            .iter()
            .filter_map(|tile| Some((*tile, tiles.remove(&(record.number, *tile))?)))
            .filter(|(_, users)| *users > 0)
            .collect();
        let found = Record::new(record.number, record.len, &found);
        if found == record {
            continue;
        }
        losses.push(format!(
            "a part of the bitmap {key}: it had {} users, and {} of them are left",
            record.users(),
            found.users()
        ));
        let mut value = vec![PRESENT];
        found.write(&mut value);
        entries.push((entry_key(KEY, &key), Some(value)));
    }
    if !tiles.is_empty() {
        losses.push(format!(
            "{} parts of bitmaps whose names are lost",
            tiles.len()
        ));
    }
    entries.extend(
        tiles
            .into_keys()
            .map(|(number, tile)| (tile_key(number, tile).to_vec(), None)),
    );
    entries.sort_unstable();
    Ok(entries)
}

/// The entries of the string ids of one prefix.
#[derive(Default)]
struct PrefixEntries {
    by_id: BTreeMap<String, u32>,
    by_number: BTreeMap<u32, String>,
    next: u64,
}

/// Returns what must be written so that string ids agree in both directions and no number in any
/// bitmap is assigned again.
fn reconcile_ids(
    version: &Version,
    records: &[(String, Record)],
    losses: &mut Vec<String>,
) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    for (prefix, ids) in read_ids(version)? {
        let contradictions = reconcile_directions(&prefix, &ids, &mut entries);
        if contradictions > 0 {
            losses.push(format!(
                "{contradictions} string ids under `{prefix}` that contradict others"
            ));
        }
        let next = next_number(&prefix, &ids, records);
        if next != ids.next {
            losses.push(format!(
                "the most recent string ids under `{prefix}`; the next new one gets number {next}"
            ));
            entries.push(id_entries::next_entry(&prefix, next));
        }
    }
    Ok(entries)
}

/// Reads all entries of string ids, by prefix. Skips entries that cannot be read.
fn read_ids(version: &Version) -> Result<BTreeMap<String, PrefixEntries>> {
    let mut found: BTreeMap<String, PrefixEntries> = BTreeMap::new();
    let mut merge = version.merge(&[])?;
    while let Some(entry) = merge.next()? {
        let Some((prefix, entry)) = id_entries::read_entry(&entry.key, contents(&entry.value))
        else {
            continue;
        };
        let of_prefix = found.entry(prefix).or_default();
        match entry {
            IdEntry::ById(id, number) => drop(of_prefix.by_id.insert(id, number)),
            IdEntry::ByNumber(number, id) => drop(of_prefix.by_number.insert(number, id)),
            IdEntry::Next(next) => of_prefix.next = next,
        }
    }
    Ok(found)
}

/// Adds to `entries` what makes both directions of the string ids of a prefix agree. Returns the
/// number of entries that contradict others and are removed.
fn reconcile_directions(prefix: &str, ids: &PrefixEntries, entries: &mut Vec<Entry>) -> u64 {
    let mut contradictions = 0;
    let mut by_number: BTreeMap<u32, &str> = ids
        .by_number
        .iter()
        .map(|(number, id)| (*number, &**id))
        .collect();
    for (id, number) in &ids.by_id {
        let [(id_key, _), (number_key, number_value)] = id_entries::id_entries(prefix, id, *number);
        match by_number.get(number) {
            Some(other) if *other != id => {
                contradictions += 1;
                entries.push((id_key, None));
            }
            Some(_) => {}
            None => {
                by_number.insert(*number, id);
                entries.push((number_key, Some(number_value)));
            }
        }
    }
    let mut by_id: BTreeMap<&str, u32> = ids
        .by_id
        .iter()
        .map(|(id, number)| (&**id, *number))
        .collect();
    for (number, id) in &ids.by_number {
        let [(id_key, id_value), (number_key, _)] = id_entries::id_entries(prefix, id, *number);
        match by_id.get(&**id) {
            Some(other) if other != number => {
                contradictions += 1;
                entries.push((number_key, None));
            }
            Some(_) => {}
            None => {
                by_id.insert(id, *number);
                entries.push((id_key, Some(id_value)));
            }
        }
    }
    contradictions
}

/// Returns a number for the next new string id of a prefix that no string id has and no bitmap
/// contains.
fn next_number(prefix: &str, ids: &PrefixEntries, records: &[(String, Record)]) -> u64 {
    let assigned = ids.by_number.keys().chain(ids.by_id.values());
    let after_assigned = assigned.map(|number| u64::from(*number) + 1).max();
    let least = ids.next.max(after_assigned.unwrap_or(0));
    let bytes = records
        .iter()
        .filter(|(key, record)| key.starts_with(prefix) && record.len != EMPTY)
        .map(|(_, record)| record.len)
        .max()
        .unwrap_or(0);
    // The last byte of a bitmap covers eight users.
    if bytes > least.div_ceil(8) {
        bytes * 8
    } else {
        least
    }
}
