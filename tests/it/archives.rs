//! Imports of ZIP archives, such as Amplitude's exports, and of files that gzip packed in odd ways.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};

use crate::support::program::Shop;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Returns a ZIP archive. `method` is 0 (stored), 8 (deflated), or one that nothing reads.
fn zip(files: &[(&str, &[u8])], method: u16) -> Vec<u8> {
    let mut archive = Vec::new();
    let mut list = Vec::new();
    for (name, bytes) in files {
        let packed = if method == 8 {
            deflate(bytes)
        } else {
            bytes.to_vec()
        };
        let header = archive.len() as u32;
        // From the flags to the length of the extra fields.
        let mut common = Vec::new();
        common.extend([0, 0]);
        common.extend(method.to_le_bytes());
        common.extend([0; 4]);
        common.extend(crc32fast::hash(bytes).to_le_bytes());
        common.extend((packed.len() as u32).to_le_bytes());
        common.extend((bytes.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0; 2]);
        archive.extend(b"PK\x03\x04\x14\x00");
        archive.extend(&common);
        archive.extend(name.as_bytes());
        archive.extend(packed);
        list.extend(b"PK\x01\x02\x14\x00\x14\x00");
        list.extend(&common);
        list.extend([0; 10]);
        list.extend(header.to_le_bytes());
        list.extend(name.as_bytes());
    }
    let start = archive.len() as u32;
    let count = (files.len() as u16).to_le_bytes();
    archive.extend(&list);
    archive.extend(b"PK\x05\x06\x00\x00\x00\x00");
    archive.extend([count, count].concat());
    archive.extend((list.len() as u32).to_le_bytes());
    archive.extend(start.to_le_bytes());
    archive.extend([0; 2]);
    archive
}

const NO_ROWS: u32 = 1000;

/// Lines of Amplitude's export: one user after the other, on one day.
fn amplitude(users: std::ops::Range<u32>, day: u32) -> Vec<u8> {
    let line = |user| {
        format!(
            "{{\"event_type\":\"open\",\"event_time\":\"2024-05-{day:02} 12:34:56.000000\",\"user_id\":\"{user}\",\"amplitude_id\":1}}\n"
        )
    };
    users.map(line).collect::<String>().into_bytes()
}

#[test]
fn the_files_of_an_archive_are_imported_as_one_file() {
    let parts = [gzip(&amplitude(1..4, 1)), gzip(&amplitude(3..8, 2))];
    let csv = b"user,event,timestamp\n8,open,2024-05-03\nx,open,2024-05-03\n";
    let files: [(&str, &[u8]); 6] = [
        ("187/", b""),
        ("187/187_2024-05-01_0#0.json.gz", &parts[0]),
        ("187/187_2024-05-02_0#0.json.gz", &parts[1]),
        ("readme.md", b"Read me."),
        ("__MACOSX/187/x.csv", b"no"),
        ("more.csv", csv),
    ];
    for method in [0, 8] {
        let shop = Shop::new();
        shop.write("export.zip", zip(&files, method));
        let ran = shop.run(&["import", "export.zip", "--max-skipped", "20"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(
            ran.out.starts_with(
                "imported 9 marks of 1 event by 8 users from 1 file, skipped 1 line\n"
            ),
            "{}",
            ran.out
        );
        assert!(
            ran.err
                .contains("2 files in the archive, such as readme.md")
                && ran.err.contains("export.zip: more.csv, line 3: `x`"),
            "{}",
            ran.err
        );
        // What was guessed is said once for both files of a kind.
        assert_eq!(
            ran.err.matches("an Amplitude export").count(),
            1,
            "{}",
            ran.err
        );
        assert_eq!(shop.run(&["count", "open@2024-05-02"]).done(), "5\n");
        assert_eq!(shop.run(&["people", "open@2024-05-03"]).done(), "8\n");
    }
}

#[test]
fn an_archive_is_imported_on_from_the_file_in_which_it_stopped() {
    let parts: Vec<(String, Vec<u8>)> = (1..=5)
        .map(|day| {
            let users = (day - 1) * NO_ROWS..day * NO_ROWS;
            (format!("{day}.json.gz"), gzip(&amplitude(users, day)))
        })
        .collect();
    let files: Vec<(&str, &[u8])> = parts
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    let shop = Shop::new();
    shop.write("export.zip", zip(&files, 8));
    let args = ["import", "--resume", "export.zip"];
    // The checkpoint is written a few times, so that it is beyond the first files.
    let mut reached = serde_json::Value::Null;
    for _ in 0..2 {
        reached = crate::import::kill_at_checkpoint(&shop, &args, None, "export.zip", 1);
    }
    let before = reached["records"].as_u64().unwrap();
    assert!(reached["part"].as_u64().unwrap() > 0, "{reached}");
    let said = shop.run(&args).done();
    let left = cohortist::render::thousands(u64::from(5 * NO_ROWS) - before);
    assert!(
        said.starts_with(&format!("imported {left} marks")),
        "{said}"
    );
    assert_eq!(shop.run(&["count", "open@2024-05"]).done(), "5000\n");
    for day in 1..=5 {
        let set = format!("open@2024-05-0{day}");
        assert_eq!(shop.run(&["count", &set]).done(), "1000\n", "{set}");
    }
}

#[test]
fn damaged_and_foreign_archives_say_what_to_do() {
    let csv = b"user,event,timestamp\n8,open,2024-05-03\n".repeat(100);
    let whole = zip(&[("a.csv", &csv)], 8);
    let shop = Shop::new();
    let error = |bytes: &[u8]| {
        shop.write("a.zip", bytes);
        shop.run(&["import", "a.zip"]).error(1)
    };
    assert!(error(&whole[..whole.len() - 9]).contains("damaged or incomplete"));
    for at in (30..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        shop.write("a.zip", &bytes);
        let ran = shop.run(&["import", "a.zip"]);
        assert!(
            ran.code < 4 && !ran.err.contains("panicked"),
            "{at}: {}",
            ran.err
        );
    }
    assert!(error(&zip(&[("a.csv", &csv)], 9)).contains("method 9"));
    assert!(error(&zip(&[("notes.md", b"x")], 0)).contains("without CSV or JSON"));
    let mut locked = zip(&[("a.csv", &csv)], 0);
    let list = locked
        .windows(4)
        .rposition(|at| at == b"PK\x01\x02")
        .unwrap();
    locked[list + 8] |= 1;
    assert!(error(&locked).contains("encrypted"));
    let sheet = [
        ("[Content_Types].xml", &b"x"[..]),
        ("xl/workbook.xml", b"x"),
    ];
    assert!(error(&zip(&sheet, 8)).contains("save the sheet as CSV"));
    assert!(error(b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1rest").contains("save the sheet as CSV"));
    let piped = shop.pipe(&["import", "-"], &whole).error(1);
    assert!(piped.contains("pass the name of the file"), "{piped}");
}

#[test]
fn gzip_may_be_padded_and_concatenated() {
    let shop = Shop::new();
    let one = gzip(b"user,event,timestamp\n5,b,2026-11-23\n");
    let two = gzip(b"6,b,2026-11-23\n");
    let zeros = vec![0; 200_000];
    for (name, bytes) in [
        ("padded.gz", [&one[..], &zeros].concat()),
        (
            "both.gz",
            [&one[..], &zeros[..7], &two, &zeros[..1]].concat(),
        ),
        ("joined.gz", [&one[..], &two].concat()),
    ] {
        shop.write(name, bytes);
        let ran = shop.run(&["import", name]);
        let marks = if name == "padded.gz" { 1 } else { 2 };
        assert!(
            ran.out.starts_with(&format!("imported {marks} mark")) && ran.code == 0,
            "{name}: {}{}",
            ran.out,
            ran.err
        );
    }
    // Anything else after a file is damage.
    shop.write("odd.gz", [&one[..], b"\0\0odd bytes after it"].concat());
    let error = shop.run(&["import", "odd.gz"]).error(1);
    assert!(error.contains("damaged"), "{error}");
}
