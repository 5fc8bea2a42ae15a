//! Merges segments, so that there are few to read and removed entries take no space.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::store::embedded::table::manifest::sync_directory;
use crate::store::embedded::table::merge::Merge;
use crate::store::embedded::table::segment::{self, Segment, SegmentInfo, Writer};
use crate::store::embedded::table::version::Version;
use crate::store::embedded::table::versions::Table;
use crate::store::{Result, StoreError};

/// The maximum write rate of a background merge, in bytes per second.
const BYTES_A_SECOND: u64 = 48 << 20;

/// The maximum total size of segments, in bytes, that are merged when the store is closed. More
/// than that is merged when the store is open again.
const MAX_BYTES_AT_CLOSE: u64 = 256 << 20;

/// The maximum number of segments left when the store is closed. A lookup searches each of them.
const MAX_SEGMENTS_AT_CLOSE: usize = 6;

/// How fast a merge writes, and whether it continues.
pub struct Pace<'a> {
    /// Whether it writes as fast as it can.
    pub hurries: bool,
    /// Called once for each block to ask whether to continue.
    pub goes_on: &'a dyn Fn() -> bool,
}

/// Returns which segments must be merged now.
///
/// Each segment must have at least twice as many bytes as all newer ones together. If much was
/// removed, all segments are merged: until then, what is removed takes space in several of them.
pub fn due(segments: &[SegmentInfo]) -> Option<Range<usize>> {
    if much_is_removed(segments) {
        return Some(0..segments.len());
    }
    // Finds the oldest segment that is too small for the newer ones. It is merged with all newer
    // segments.
    let mut newer = 0;
    let mut from = None;
    for (at, info) in segments.iter().enumerate().rev() {
        if newer > 0 && info.bytes < 2 * newer {
            from = Some(at);
        }
        newer += info.bytes;
    }
    from.map(|from| from..segments.len())
}

/// Returns whether a merge may free at least a fifth of all entries. Each entry that marks
/// something as removed may hide one entry in every other segment.
fn much_is_removed(segments: &[SegmentInfo]) -> bool {
    let removed: u64 = segments.iter().map(|info| info.removed).sum();
    let entries: u64 = segments.iter().map(|info| info.entries).sum();
    let others = (segments.len() as u64).saturating_sub(1).max(1);
    removed > 0 && removed * others * 5 >= entries
}

impl Table {
    /// Merges segments before the store is closed, if much was removed or if there are many
    /// segments: each run of a program that writes a little and ends adds one.
    pub fn compact_at_close(&self) -> Result<()> {
        let pace = Pace {
            hurries: true,
            goes_on: &|| true,
        };
        loop {
            let segments = self.manifest().segments;
            let bytes: u64 = segments.iter().map(|info| info.bytes).sum();
            let is_worthwhile =
                much_is_removed(&segments) || segments.len() > MAX_SEGMENTS_AT_CLOSE;
            if bytes > MAX_BYTES_AT_CLOSE || !is_worthwhile || !self.compact_due(&pace)? {
                return Ok(());
            }
        }
    }

    /// Merges the segments that are due. Returns whether any were merged.
    pub fn compact_due(&self, pace: &Pace<'_>) -> Result<bool> {
        let _merging = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.version();
        let infos: Vec<SegmentInfo> = version
            .segments
            .iter()
            .map(|segment| segment.info().clone())
            .collect();
        let Some(range) = due(&infos) else {
            return Ok(false);
        };
        self.merge_segments(&version, range, pace)
    }

    /// Merges all segments into one.
    pub fn compact_all(&self, pace: &Pace<'_>) -> Result<bool> {
        let _merging = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.version();
        let removed: u64 = version
            .segments
            .iter()
            .map(|segment| segment.info().removed)
            .sum();
        if version.segments.len() < 2 && removed == 0 {
            return Ok(false);
        }
        self.merge_segments(&version, 0..version.segments.len(), pace)
    }

    fn merge_segments(
        &self,
        version: &Version,
        range: Range<usize>,
        pace: &Pace<'_>,
    ) -> Result<bool> {
        let merged = &version.segments[range.clone()];
        let (store, number) = self.new_segment();
        let path = self.directory.join(segment::file_name(number));
        let mut writer = Writer::create(&path, store, number)
            .map_err(|error| StoreError::write(&path, &error))?;
        if !copy(
            &mut Merge::new(merged, &[], range.start == 0)?,
            &mut writer,
            &path,
            pace,
        )? {
            return Ok(false);
        }
        let newest = merged.last().expect("at least one segment is merged");
        let sequence = newest.info().sequence;
        let info = writer
            .finish(sequence)
            .map_err(|error| StoreError::write(&path, &error))?;
        let is_empty = info.entries == 0;
        let new = if is_empty {
            None
        } else {
            Some(Arc::new(Segment::open(&path, store, &info)?))
        };
        sync_directory(&self.directory);
        let old: Vec<u64> = merged.iter().map(|segment| segment.info().number).collect();
        let edited = self.edit(|manifest| {
            // A checkpoint may have added newer segments in the meantime.
            manifest
                .segments
                .splice(range.clone(), new.as_ref().map(|_| info.clone()));
        });
        if let Err(error) = edited {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        {
            let mut version = self.version.write().unwrap_or_else(PoisonError::into_inner);
            let mut segments = version.segments.clone();
            segments.splice(range, new);
            *version = Arc::new(Version {
                segments,
                blocks: Arc::clone(&self.blocks),
            });
        }
        if is_empty {
            let _ = fs::remove_file(&path);
        }
        for number in old {
            let path = self.directory.join(segment::file_name(number));
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(
                    "cannot delete {}, which is no longer needed: {error}",
                    path.display()
                );
            }
        }
        Ok(true)
    }
}

/// Writes all entries to a new file. `path` is the name of the file in errors. Returns whether it
/// reached the end.
pub fn copy(merge: &mut Merge, writer: &mut Writer, path: &Path, pace: &Pace<'_>) -> Result<bool> {
    let began = Instant::now();
    let mut written = 0;
    while let Some(entry) = merge.next()? {
        writer
            .add(&entry.key, &entry.value)
            .map_err(|error| StoreError::write(path, &error))?;
        if writer.bytes() > written {
            written = writer.bytes();
            if !(pace.goes_on)() {
                return Ok(false);
            }
            #[expect(clippy::cast_precision_loss, reason = "the delay is approximate")]
            let due = Duration::from_secs_f64(written as f64 / BYTES_A_SECOND as f64);
            let ahead = due.saturating_sub(began.elapsed());
            if !pace.hurries && ahead > Duration::from_millis(2) {
                std::thread::sleep(ahead.min(Duration::from_millis(100)));
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn infos(sizes: &[(u64, u64, u64)]) -> Vec<SegmentInfo> {
        let info = |(bytes, entries, removed): &(u64, u64, u64)| SegmentInfo {
            number: 1,
            sequence: 1,
            bytes: *bytes,
            entries: *entries,
            removed: *removed,
            checksum: 0,
        };
        sizes.iter().map(info).collect()
    }

    #[test]
    fn merges_keep_the_number_of_segments_small_and_rarely_rewrite_big_ones() {
        assert_eq!(due(&infos(&[])), None);
        assert_eq!(due(&infos(&[(100, 10, 0)])), None);
        assert_eq!(due(&infos(&[(100, 10, 0), (40, 10, 0)])), None);
        assert_eq!(
            due(&infos(&[(100, 10, 0), (30, 10, 0), (20, 10, 0)])),
            Some(1..3)
        );
        assert_eq!(
            due(&infos(&[(90, 10, 0), (30, 10, 0), (20, 10, 0)])),
            Some(0..3)
        );
        assert_eq!(
            due(&infos(&[(1000, 10, 0), (30, 10, 0), (20, 10, 0)])),
            Some(1..3)
        );
        assert_eq!(
            due(&infos(&[(1000, 100, 0), (30, 10, 10), (1, 1, 1)])),
            None
        );
        assert_eq!(due(&infos(&[(1000, 100, 0), (30, 50, 50)])), Some(0..2));
        assert_eq!(due(&infos(&[(10, 10, 10)])), Some(0..1));
        // Each removal in the newest segment may hide an entry in each of the three others.
        assert_eq!(
            due(&infos(&[
                (1000, 100, 0),
                (300, 100, 0),
                (100, 100, 0),
                (1, 25, 25)
            ])),
            Some(0..4)
        );
        assert_eq!(
            due(&infos(&[
                (1000, 100, 0),
                (300, 100, 0),
                (100, 100, 0),
                (1, 15, 15)
            ])),
            None
        );
        // With segments of equal size, their number stays small and each byte is written only a few
        // times.
        let mut segments = Vec::new();
        let mut written = 0;
        for _ in 0..256 {
            segments.push((100, 10, 0));
            written += 100;
            while let Some(range) = due(&infos(&segments)) {
                let merged: u64 = segments[range.clone()]
                    .iter()
                    .map(|info: &(u64, u64, u64)| info.0)
                    .sum();
                segments.splice(range, [(merged, 10, 0)]);
                written += merged;
            }
            assert!(segments.len() <= 9, "{segments:?}");
        }
        assert!(written <= 256 * 100 * 9, "{written}");
    }
}
