//! Recovers a damaged store, for `--accept-loss`: everything that can be read, and a list of what
//! cannot.
//!
//! The list is stored in the manifest, so that later starts need no flag and still report it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::store::embedded::idmap::{self, IdEntry};
use crate::store::embedded::memtable::EMPTY;
use crate::store::embedded::record::Record;
use crate::store::embedded::recovery::{cannot_open, log_files, unnamed_logs};
use crate::store::embedded::table::packed::Packed;
use crate::store::embedded::table::segment::{self, Segment, SegmentInfo, Writer};
use crate::store::embedded::table::{
    EXPIRY, Entry, KEY, Manifest, PRESENT, TILE, Table, Version, new_store, record_number,
    sync_directory, text_key, tile_key, tile_of,
};
use crate::store::embedded::table_cache::expiry_entry;
use crate::store::embedded::wal;
use crate::store::{Result, StoreError};

/// Builds a manifest from the existing files, to replace one that is missing or damaged.
pub fn manifest(directory: &Path, error: Option<StoreError>) -> Result<Manifest> {
    let mut losses = vec![
        error.map_or("the manifest was missing".to_owned(), |error| {
            error.to_string()
        }),
    ];
    let mut segments: Vec<Segment> = Vec::new();
    for entry in fs::read_dir(directory)
        .map_err(|error| cannot_open(directory, &error))?
        .flatten()
    {
        if entry
            .file_name()
            .to_str()
            .and_then(segment::number_of)
            .is_some()
        {
            match Segment::open_any(&entry.path()) {
                Ok(segment) => segments.push(segment),
                Err(error) => losses.push(error.to_string()),
            }
        }
    }
    // A segment that others were merged into has the sequence of the newest of them and a greater
    // number.
    segments.sort_by_key(|segment| (segment.info().sequence, segment.info().number));
    let logs = log_files(directory).map_err(|error| cannot_open(directory, &error))?;
    let store = segments.first().map(Segment::store);
    let store = store
        .or_else(|| logs.iter().find_map(|(_, path)| wal::store_of(path)))
        .unwrap_or_else(new_store);
    let mut manifest = Manifest {
        store,
        sequence: segments.last().map_or(0, |segment| segment.info().sequence),
        next_segment: segments
            .iter()
            .map(|segment| segment.info().number + 1)
            .max()
            .unwrap_or(1),
        segments: segments
            .iter()
            .map(|segment| segment.info().clone())
            .collect(),
        logs: logs.into_iter().map(|(number, _)| number).collect(),
        ..Manifest::default()
    };
    manifest.losses = losses;
    manifest.next_key = next_key(&segments)?;
    manifest
        .write(directory)
        .map_err(|error| StoreError::write(directory, &error))?;
    Ok(manifest)
}

/// Adds to a manifest the logs that are newer than it.
pub fn logs(directory: &Path, mut manifest: Manifest, error: &StoreError) -> Result<Manifest> {
    manifest.logs.extend(unnamed_logs(directory, &manifest)?);
    manifest.closed_at = None;
    manifest.losses.push(error.to_string());
    manifest
        .write(directory)
        .map_err(|error| StoreError::write(directory, &error))?;
    Ok(manifest)
}

/// Returns a number that no bitmap in these segments has, and that no bitmap deleted since then
/// had.
fn next_key(segments: &[Segment]) -> Result<u64> {
    let mut next = 0;
    for block in segments
        .iter()
        .flat_map(|segment| (0..segment.blocks()).map(move |number| segment.read(number)))
    {
        let Ok(block) = block else { continue };
        for at in 0..block.len() {
            // A bitmap without users has no tiles.
            let is_record = block.key(at).first() == Some(&KEY);
            let number = if is_record {
                record_number(block.value(at))
            } else {
                tile_of(block.key(at)).map(|(number, _)| number)
            };
            next = next.max(number.map_or(0, |number| u64::from(number) + 1));
        }
    }
    Ok(next)
}

/// Replaces missing or damaged segments with what can be read of them, and makes records and tiles
/// agree. A manifest whose segments are intact stays unchanged.
pub fn segments(directory: &Path, manifest: Manifest) -> Result<Manifest> {
    let mut manifest = manifest;
    let mut losses = Vec::new();
    let mut whole: Vec<SegmentInfo> = Vec::new();
    for info in manifest.segments.clone() {
        match readable(directory, &mut manifest, &info, &mut losses)? {
            Some(info) => whole.push(info),
            None => losses.push(format!("segment-{} with all it held", info.number)),
        }
    }
    let is_whole = losses.is_empty();
    if !is_whole {
        manifest.segments = whole;
        manifest.losses.append(&mut losses);
        manifest
            .write(directory)
            .map_err(|error| StoreError::write(directory, &error))?;
    }
    let table = Table::open(directory, manifest.clone(), 1 << 20)?;
    let version = table.version();
    if is_whole && version.check().is_ok() {
        return Ok(manifest);
    }
    let entries = reconcile(&version, &mut losses)?;
    let sequence = manifest.sequence;
    let _ = table.add(entries.into_iter().map(Ok), sequence, |manifest| {
        manifest.losses.append(&mut losses)
    })?;
    Ok(table.manifest())
}

/// Returns the segment itself if it is intact, a new segment with what can be read of it, or
/// `None`.
fn readable(
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
                let text = std::str::from_utf8(&entry.key[1..]);
                if let (Ok(text), Some(record)) =
                    (text, entry.value.get(1..).and_then(Record::read))
                {
                    records.push((text.to_owned(), record));
                }
            }
            Some(&TILE) => {
                if let (Some(place), Some(Packed::Whole(tile))) =
                    (tile_of(&entry.key), Packed::read(&entry.value))
                {
                    tiles.insert(place, tile.len());
                }
            }
            Some(&EXPIRY)
                if expiry_entry(&entry.key[1..], entry.value.get(1..).unwrap_or_default())
                    .is_none() =>
            {
                losses.push("when one bitmap expires".to_owned());
                unreadable.push((entry.key.clone(), None));
            }
            _ => {}
        }
    }
    let mut entries: Vec<Entry> = reconcile_ids(version, &records, losses)?;
    entries.append(&mut unreadable);
    for (text, record) in records {
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
            "of the bitmap {text}: it had {} users, and {} of them are left",
            record.users(),
            found.users()
        ));
        let mut value = vec![PRESENT];
        found.write(&mut value);
        entries.push((text_key(KEY, &text), Some(value)));
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

/// The string ids of one prefix, as found in both directions.
#[derive(Default)]
struct Found {
    by_text: BTreeMap<String, u32>,
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
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    let mut merge = version.merge(&[])?;
    while let Some(entry) = merge.next()? {
        let value = entry.value.get(1..).unwrap_or_default();
        match idmap::read_entry(&entry.key, value) {
            Some((prefix, IdEntry::ByText(text, number))) => {
                found
                    .entry(prefix)
                    .or_default()
                    .by_text
                    .insert(text, number);
            }
            Some((prefix, IdEntry::ByNumber(number, text))) => {
                found
                    .entry(prefix)
                    .or_default()
                    .by_number
                    .insert(number, text);
            }
            Some((prefix, IdEntry::Next(next))) => found.entry(prefix).or_default().next = next,
            None => {}
        }
    }
    let mut entries: Vec<Entry> = Vec::new();
    for (prefix, ids) in found {
        let mut contradictions = 0_u64;
        let mut texts: BTreeMap<u32, &str> = ids
            .by_number
            .iter()
            .map(|(number, text)| (*number, &**text))
            .collect();
        for (text, number) in &ids.by_text {
            let [by_text, by_number] = idmap::id_entries(&prefix, text, *number);
            match texts.get(number) {
                Some(other) if *other != text => {
                    contradictions += 1;
                    entries.push((by_text.0, None));
                }
                Some(_) => {}
                None => {
                    texts.insert(*number, text);
                    entries.push((by_number.0, Some(by_number.1)));
                }
            }
        }
        let mut numbers: BTreeMap<&str, u32> = ids
            .by_text
            .iter()
            .map(|(text, number)| (&**text, *number))
            .collect();
        for (number, text) in &ids.by_number {
            let [by_text, by_number] = idmap::id_entries(&prefix, text, *number);
            match numbers.get(&**text) {
                Some(other) if other != number => {
                    contradictions += 1;
                    entries.push((by_number.0, None));
                }
                Some(_) => {}
                None => {
                    numbers.insert(text, *number);
                    entries.push((by_text.0, Some(by_text.1)));
                }
            }
        }
        if contradictions > 0 {
            losses.push(format!(
                "{contradictions} string ids under `{prefix}` that contradict others"
            ));
        }
        let given = ids
            .by_number
            .keys()
            .chain(ids.by_text.values())
            .map(|number| u64::from(*number) + 1)
            .max();
        let bytes = records
            .iter()
            .filter(|(text, record)| text.starts_with(&prefix) && record.len != EMPTY);
        let bytes = bytes.map(|(_, record)| record.len).max().unwrap_or(0);
        let least = given.unwrap_or(0);
        // The last byte of a bitmap covers eight users.
        let next = if bytes > ids.next.max(least).div_ceil(8) {
            bytes * 8
        } else {
            ids.next.max(least)
        };
        if next != ids.next {
            losses.push(format!(
                "the most recent string ids under `{prefix}`; the next new one gets number {next}"
            ));
            entries.push(idmap::next_entry(&prefix, next));
        }
    }
    Ok(entries)
}
