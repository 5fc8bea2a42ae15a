//! The README, CONTRIBUTING.md and the book in `docs`: their examples run, their links and paths
//! exist, and every page is in the table of contents.
//!
//! The language of a code block says what is checked:
//!
//! | language | check |
//! |---|---|
//! | `console` | every `$ ` line runs, in order, and succeeds; the lines below it are its output, where a line `...` stands for any number of lines |
//! | `sh` | every `cohortist` command has options and arguments that exist; for what needs a server, Redis or Docker |
//! | `toml` | `cohortist serve --check` accepts it as a configuration file |
//! | `json` | it is JSON |
//! | `rust` | the page is one of the doctests in `src/lib.rs` |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::support::program::program;

/// Languages of code blocks that are shown and not checked.
const SHOWN: [&str; 7] = ["text", "csv", "nginx", "ini", "python", "js", "html"];

/// Where paths in `code` begin that must exist.
const DIRECTORIES: [&str; 9] = [
    "benches/",
    "docs/",
    "examples/",
    "fuzz/",
    "scripts/",
    "src/",
    "static/",
    "templates/",
    "tests/",
];

/// How long an example may run.
const PATIENCE: Duration = Duration::from_secs(60);

struct Page {
    /// Relative to the repository.
    path: PathBuf,
    text: String,
    blocks: Vec<Block>,
    /// Links and images.
    links: Vec<Mention>,
    /// Inline code.
    code: Vec<Mention>,
    anchors: BTreeSet<String>,
}

struct Block {
    language: String,
    text: String,
    /// The line of its first line in the page.
    line: usize,
}

struct Mention {
    text: String,
    line: usize,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Page {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(root().join(path))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut page = Page {
            path: path.to_owned(),
            text: text.clone(),
            blocks: Vec::new(),
            links: Vec::new(),
            code: Vec::new(),
            anchors: BTreeSet::new(),
        };
        let mut heading: Option<String> = None;
        let mut in_block = false;
        let events = Parser::new_ext(&text, Options::ENABLE_TABLES).into_offset_iter();
        for (event, range) in events {
            let line = 1 + text[..range.start].matches('\n').count();
            let mention = |text: &str| Mention {
                text: text.to_owned(),
                line,
            };
            match event {
                Event::Start(Tag::CodeBlock(kind)) => {
                    in_block = true;
                    page.blocks.push(match kind {
                        CodeBlockKind::Fenced(language) => Block {
                            language: language.to_string(),
                            text: String::new(),
                            line: line + 1,
                        },
                        CodeBlockKind::Indented => Block {
                            language: String::new(),
                            text: String::new(),
                            line,
                        },
                    });
                }
                Event::End(TagEnd::CodeBlock) => in_block = false,
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(mention(&dest_url));
                }
                Event::Html(html) | Event::InlineHtml(html) => {
                    page.links.extend(addresses(&html).into_iter().map(mention));
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let title = heading.take().expect("a heading began");
                    page.add_anchor(&title);
                }
                Event::Code(code) => {
                    page.code.push(mention(&code));
                    if let Some(heading) = &mut heading {
                        heading.push_str(&code);
                    }
                }
                Event::Text(part) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&part);
                    } else if in_block {
                        let block = page.blocks.last_mut().expect("a block began");
                        block.text.push_str(&part);
                    }
                }
                _ => {}
            }
        }
        page
    }

    /// As GitHub and mdBook name it. A title that was there before gets a number.
    fn add_anchor(&mut self, title: &str) {
        let slug: String = title
            .trim()
            .to_lowercase()
            .chars()
            .filter_map(|c| match c {
                ' ' => Some('-'),
                c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
                _ => None,
            })
            .collect();
        let free = (0..)
            .map(|n| {
                if n == 0 {
                    slug.clone()
                } else {
                    format!("{slug}-{n}")
                }
            })
            .find(|slug| !self.anchors.contains(slug))
            .expect("there are more numbers than headings");
        self.anchors.insert(free);
    }

    fn at(&self, line: usize, what: impl Display) -> String {
        format!("{}:{line}: {what}", self.path.display())
    }

    fn is_in_the_book(&self) -> bool {
        self.path.starts_with("docs")
    }

    fn blocks(&self, language: &str) -> impl Iterator<Item = &Block> {
        self.blocks
            .iter()
            .filter(move |block| block.language == language)
    }
}

fn pages_in(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join(directory)).unwrap() {
        let entry = entry.unwrap();
        let path = directory.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            found.extend(pages_in(&path));
        } else if path.extension().is_some_and(|ending| ending == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn pages() -> Vec<Page> {
    let mut paths = vec![PathBuf::from("README.md"), PathBuf::from("CONTRIBUTING.md")];
    paths.extend(pages_in(Path::new("docs")));
    paths.iter().map(|path| Page::read(path)).collect()
}

/// Fails with all that is wrong, a line each.
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// The values of `src`, `srcset` and `href` in HTML.
fn addresses(html: &str) -> Vec<&str> {
    ["src=\"", "srcset=\"", "href=\""]
        .iter()
        .flat_map(|attribute| html.split(attribute).skip(1))
        .filter_map(|rest| rest.split('"').next())
        .collect()
}

#[test]
fn the_readme_is_short() {
    let lines = Page::read(Path::new("README.md")).text.lines().count();
    assert!(
        lines <= 200,
        "README.md has {lines} lines: move what a newcomer does not need to docs"
    );
}

#[test]
fn every_page_of_the_book_is_in_its_summary_once() {
    let summary = Page::read(Path::new("docs/SUMMARY.md"));
    let mut listed: Vec<PathBuf> = summary
        .links
        .iter()
        .map(|link| Path::new("docs").join(&link.text))
        .chain([summary.path.clone()])
        .collect();
    listed.sort();
    assert_eq!(listed, pages_in(Path::new("docs")));
}

/// A path with `.` and `..` taken out. `None` when it leaves the repository.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                if !plain.pop() {
                    return None;
                }
            }
            std::path::Component::CurDir => {}
            part => plain.push(part),
        }
    }
    Some(plain)
}

/// What is wrong with a link of a page.
fn broken(link: &str, page: &Page, pages: &BTreeMap<PathBuf, Page>) -> Option<String> {
    let is_elsewhere = ["https://", "http://", "mailto:"]
        .iter()
        .any(|scheme| link.starts_with(scheme));
    if is_elsewhere {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let directory = page.path.parent().expect("pages are files");
    let target = if file.is_empty() {
        page.path.clone()
    } else {
        match plain(&directory.join(file)) {
            Some(target) => target,
            None => return Some("leaves the repository".to_owned()),
        }
    };
    if !root().join(&target).exists() {
        return Some("there is no such file".to_owned());
    }
    if page.is_in_the_book() && !target.starts_with("docs") {
        return Some(
            "the book holds only `docs`: name the path as `code` instead of a link".to_owned(),
        );
    }
    match pages.get(&target) {
        Some(target) if !anchor.is_empty() && !target.anchors.contains(anchor) => {
            Some("there is no such heading".to_owned())
        }
        _ => None,
    }
}

#[test]
fn links_and_images_lead_to_files_and_headings() {
    let pages: BTreeMap<PathBuf, Page> = pages()
        .into_iter()
        .map(|page| (page.path.clone(), page))
        .collect();
    let mut faults = Vec::new();
    for page in pages.values() {
        for link in &page.links {
            if let Some(fault) = broken(&link.text, page, &pages) {
                faults.push(page.at(link.line, format!("[{}]: {fault}", link.text)));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn paths_in_the_text_exist() {
    let mut faults = Vec::new();
    for page in pages() {
        for code in &page.code {
            let path = code.text.split_whitespace().next().unwrap_or_default();
            let is_a_pattern = path.contains(['*', '{', '<', '…'])
                || path.contains("NAME")
                || path.contains("NNNN");
            let is_a_path = DIRECTORIES.iter().any(|start| path.starts_with(start));
            if is_a_path && !is_a_pattern && !root().join(path).exists() {
                faults.push(page.at(code.line, format!("`{path}` does not exist")));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn every_code_block_has_a_known_language() {
    let library = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let mut faults = Vec::new();
    for page in pages() {
        let is_doctest = library.contains(&format!("\"../{}\"", page.path.display()));
        for block in &page.blocks {
            match block.language.as_str() {
                "console" | "sh" | "toml" | "json" => {}
                "rust" if is_doctest => {}
                "rust" => faults.push(page.at(
                    block.line,
                    "add this page to the doctests in src/lib.rs, or its examples never run",
                )),
                shown if SHOWN.contains(&shown) => {}
                other => faults.push(page.at(
                    block.line,
                    format!("`{other}` is no language that {} knows", file!()),
                )),
            }
        }
    }
    assert_none(&faults);
}

/// A command in a `console` block, and the output that is shown.
struct Example {
    command: String,
    output: Vec<String>,
    line: usize,
}

fn examples(block: &Block) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut goes_on = false;
    for (number, text) in block.text.lines().enumerate() {
        if goes_on {
            let example = examples.last_mut().expect("a command began");
            example.command.push('\n');
            example.command.push_str(text.trim_start_matches("> "));
            goes_on = text.ends_with('\\');
        } else if let Some(command) = text.strip_prefix("$ ") {
            examples.push(Example {
                command: command.to_owned(),
                output: Vec::new(),
                line: block.line + number,
            });
            goes_on = command.ends_with('\\');
        } else if let Some(example) = examples.last_mut() {
            example.output.push(text.trim_end().to_owned());
        }
    }
    examples
}

/// Whether lines are as shown, where a line `...` stands for any number of lines.
fn is_as_shown(lines: &[&str], shown: &[String]) -> bool {
    match shown.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first == "..." => {
            (0..=lines.len()).any(|skipped| is_as_shown(&lines[skipped..], rest))
        }
        Some((first, rest)) => lines
            .split_first()
            .is_some_and(|(line, lines)| line == first && is_as_shown(lines, rest)),
    }
}

/// A directory as a reader has it who runs the examples in a checkout.
fn checkout() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let samples = directory.path().join("examples");
    fs::create_dir(&samples).unwrap();
    for sample in fs::read_dir(root().join("examples")).unwrap() {
        let sample = sample.unwrap();
        fs::copy(sample.path(), samples.join(sample.file_name())).unwrap();
    }
    directory
}

/// Runs a line of the shell. Returns how it ended, `None` when it had to be killed, and what it
/// wrote to stdout and stderr together.
fn run(command: &str, directory: &Path) -> (Option<ExitStatus>, String) {
    let output = directory.join(".output");
    let file = File::create(&output).unwrap();
    let cohortist = program();
    let binaries = Path::new(cohortist.get_program()).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .current_dir(directory)
        .env("PATH", format!("{}:{path}", binaries.display()))
        .stdout(file.try_clone().unwrap())
        .stderr(file);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("COHORTIST_") {
            shell.env_remove(name);
        }
    }
    let mut child = shell.spawn().unwrap();
    let until = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() > until => {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let written = fs::read(output).unwrap();
    (status, String::from_utf8_lossy(&written).into_owned())
}

#[test]
fn console_examples_do_what_they_show() {
    let mut faults = Vec::new();
    let mut count = 0;
    for page in pages() {
        let directory = checkout();
        for example in page.blocks("console").flat_map(examples) {
            count += 1;
            let (status, output) = run(&example.command, directory.path());
            let lines: Vec<&str> = output.lines().map(str::trim_end).collect();
            let fault = match status {
                None => "does not end".to_owned(),
                Some(status) if !status.success() => format!("failed, {status}"),
                Some(_) if example.output.is_empty() => continue,
                Some(_) if is_as_shown(&lines, &example.output) => continue,
                Some(_) => format!("shown:\n{}", example.output.join("\n")),
            };
            faults.push(page.at(
                example.line,
                format!("$ {}\n{fault}\nactual:\n{output}", example.command),
            ));
        }
    }
    assert!(count > 0, "there are examples");
    assert_none(&faults);
}

/// A word of a shell command, or an operator between commands.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `|`, `&&`, `;`, the end of a line and the like.
    Separator,
    /// `>`, `<` and the like: the next word is a file.
    Redirection,
}

/// As much of the shell's grammar as the examples need.
fn tokens(line: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut depth = 0;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('"') | None, '$') if chars.peek() == Some(&'(') => {
                word.get_or_insert_default().push('$');
                depth += 1;
            }
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, ')') if depth > 0 => depth -= 1,
            (None, c) if depth > 0 => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '|' | '&' | ';' | '<' | '>' | ' ' | '\t') => {
                tokens.extend(word.take().map(Token::Word));
                match c {
                    '<' | '>' => tokens.push(Token::Redirection),
                    ' ' | '\t' => {}
                    _ => tokens.push(Token::Separator),
                }
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    tokens.extend(word.map(Token::Word));
    tokens
}

/// The arguments of every `cohortist` in a script, with its line in the script.
fn cohortist_commands(script: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let mut lines = script.lines().enumerate();
    while let Some((number, first)) = lines.next() {
        let mut line = first.to_owned();
        while line.ends_with('\\') {
            line.pop();
            line.push_str(lines.next().map_or("", |(_, next)| next));
        }
        if let Some((_, end)) = line.split_once("<<") {
            let end = end.trim_matches(['\'', '"', ' ']).to_owned();
            // What stands there is no command.
            lines.by_ref().find(|(_, text)| text.trim() == end);
        }
        let tokens = tokens(&line);
        for command in tokens.split(|token| *token == Token::Separator) {
            found.extend(arguments(command).map(|arguments| (number, arguments)));
        }
    }
    found
}

/// The arguments of a command, if it is `cohortist` or runs it through cargo.
fn arguments(command: &[Token]) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut tokens = command.iter();
    while let Some(token) = tokens.next() {
        match token {
            Token::Word(word) => words.push(word.clone()),
            Token::Redirection => {
                tokens.next();
            }
            Token::Separator => {}
        }
    }
    let is_assignment = |word: &String| {
        word.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
        })
    };
    let start = words.iter().position(|word| !is_assignment(word))?;
    let words = words.split_off(start);
    match words.first()?.as_str() {
        "cohortist" => Some(words[1..].to_vec()),
        "cargo" => {
            let after = words.iter().position(|word| word == "--")?;
            Some(words[after + 1..].to_vec())
        }
        _ => None,
    }
}

#[test]
fn commands_are_found_in_scripts() {
    let script = "\
export TOKEN=$(openssl rand -hex 16) # a comment: cohortist none
cohortist copy 'a b' c && COHORTIST_LISTEN=[::]:80 cohortist serve &
cargo run --release -- demo   # cohortist no
curl -d @- x <<'EOF'
cohortist inside
EOF
x | cohortist import - \\
  --event y > out.txt";
    let found = cohortist_commands(script);
    let found: Vec<(usize, String)> = found
        .into_iter()
        .map(|(line, arguments)| (line, arguments.join("·")))
        .collect();
    let expected = [
        (1, "copy·a b·c"),
        (1, "serve"),
        (2, "demo"),
        (6, "import·-·--event·y"),
    ];
    assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())));
}

#[test]
fn commands_in_shell_examples_exist() {
    let directory = checkout();
    let mut faults = Vec::new();
    for page in pages() {
        for block in page.blocks("sh") {
            for (line, arguments) in cohortist_commands(&block.text) {
                let output = program()
                    .args(&arguments)
                    .arg("--help")
                    .current_dir(directory.path())
                    .output()
                    .unwrap();
                if !output.status.success() {
                    faults.push(page.at(
                        block.line + line,
                        format!(
                            "cohortist {}: {}",
                            arguments.join(" "),
                            String::from_utf8_lossy(&output.stderr)
                        ),
                    ));
                }
            }
        }
    }
    assert_none(&faults);
}

/// The long option that a line of a help text begins with.
fn option(line: &str) -> Option<String> {
    let line = line.trim_start();
    let behind_short = || line.strip_prefix('-')?.split_once(", --");
    let rest = match line.strip_prefix("--") {
        Some(rest) => rest,
        None => behind_short()?.1,
    };
    let name: String = rest.chars().take_while(|c| is_of_option(*c)).collect();
    (!name.is_empty()).then(|| format!("--{name}"))
}

fn is_of_option(c: char) -> bool {
    c.is_ascii_lowercase() || c == '-'
}

fn help(arguments: &[&str]) -> String {
    stdout(&[arguments, &["--help"]].concat())
}

fn stdout(arguments: &[&str]) -> String {
    let output = program().args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Hidden, or of every program.
const OPTIONS_WITHOUT_HELP: [&str; 2] = ["--cache-mb", "--help"];

#[test]
fn the_command_line_is_documented_completely() {
    let page = Page::read(Path::new("docs/reference/command-line.md"));
    let overview = help(&[]);
    let commands: Vec<&str> = overview
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert!(commands.contains(&"serve"), "{overview}");
    let mut known: BTreeSet<String> = overview.lines().filter_map(option).collect();
    known.extend(stdout(&["help", "options"]).lines().filter_map(option));
    for command in &commands {
        let heading = page
            .text
            .lines()
            .any(|line| line.starts_with("## ") && line.contains(command));
        assert!(
            heading,
            "{command} has no heading in {}",
            page.path.display()
        );
        known.extend(help(&[command]).lines().filter_map(option));
    }
    known.retain(|option| !["--help", "--version"].contains(&option.as_str()));
    let documented: BTreeSet<String> = page
        .text
        .split(|c| !is_of_option(c))
        .filter(|word| word.starts_with("--") && word.len() > 3 && !word.ends_with('-'))
        .filter(|word| !OPTIONS_WITHOUT_HELP.contains(word))
        .map(str::to_owned)
        .collect();
    assert_eq!(known, documented, "options in help, options in the page");
}

#[test]
fn configuration_files_and_json_are_right() {
    let directory = checkout();
    let mut faults = Vec::new();
    for page in pages() {
        for block in page.blocks("toml") {
            let file = directory.path().join("example.toml");
            fs::write(&file, &block.text).unwrap();
            let output = program()
                .args(["--config", "example.toml", "serve", "--check"])
                .current_dir(directory.path())
                .output()
                .unwrap();
            if !output.status.success() {
                faults.push(page.at(block.line, String::from_utf8_lossy(&output.stderr)));
            }
        }
        for block in page.blocks("json") {
            if let Err(error) = serde_json::from_str::<serde_json::Value>(&block.text) {
                faults.push(page.at(block.line, error));
            }
        }
    }
    assert_none(&faults);
}
