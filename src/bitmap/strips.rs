//! Executes a program strip by strip, for tile numbers in which most bitmaps are dense.
//!
//! A result that is stored as a tile takes 8 KiB of memory, and its users are counted. Many such
//! results do not fit into the nearest caches. Here only a strip of each result is stored at a time,
//! so that all of them stay in the L1 cache, and only the users of roots are counted.

use smallvec::SmallVec;

use crate::bitmap::kernel::{self, Row, WORDS, Words};
use crate::bitmap::pairs::NOBODY;
use crate::bitmap::program::{NONE, Op, Program};
use crate::bitmap::tile::Dense;

/// The minimum number of results, other than unions that grow, for which strips pay off.
const MIN_RESULTS: usize = 8;

/// The maximum number of bitmaps that are read at once. Their tiles take up to 8 KiB each.
const MAX_LEAVES: usize = 512;

/// The maximum number of words of the strips of all results, unless a strip would be too short. Most
/// of them must fit into the L1 cache, which has at least 32 KiB.
const STRIPS: usize = (40 << 10) / 8;

/// The minimum number of words of a strip.
const MIN_STRIP: usize = 64;

/// Where an operand is.
#[derive(Debug, Clone, Copy)]
enum From {
    /// In the tile of a leaf.
    Leaf(usize),
    /// In the strip of a slot.
    Slot(usize),
}

/// How two operands are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Combine {
    And,
    Or,
    Xor,
    Diff,
}

/// One operation on strips.
enum Line {
    Copy(usize, From),
    /// Stores a combination of two operands.
    Set(Combine, usize, [From; 2]),
    /// Combines a stored result with an operand.
    Join(Combine, usize, From),
    /// Adds the intersection of two operands to a stored union.
    AddAnd(usize, [From; 2]),
    /// Adds the number of users to the sum with this index.
    Count(From, usize),
    /// Adds the number of users in either of two operands to the sum with this index.
    CountEither([From; 2], usize),
    /// Counts a batch. The sums begin with this index.
    Batch(usize, Vec<From>, usize),
}

/// A program for strips.
pub(super) struct Code {
    /// The nodes that are read.
    leaves: Vec<u32>,
    lines: Vec<Line>,
    slots: usize,
    /// For each sum, the root that it counts for.
    roots: Vec<u32>,
}

impl Code {
    /// Translates a program. Returns `None` if strips do not pay off or are not supported.
    pub fn of(program: &Program) -> Option<Code> {
        let mut code = Code {
            leaves: Vec::new(),
            lines: Vec::new(),
            slots: 1,
            roots: Vec::new(),
        };
        let scratch = 0;
        let mut places = vec![From::Slot(scratch); program.slots as usize];
        // Slots of the program that only hold leaves need no strip.
        let mut own_slots: Vec<Option<usize>> = vec![None; places.len()];
        for step in &program.steps {
            let operands: SmallVec<[From; 4]> = program
                .operands(step)
                .iter()
                .map(|operand| places[operand.slot as usize])
                .collect();
            match step.op {
                Op::Not => return None,
                Op::Leaf | Op::Empty => {
                    places[step.out as usize] = From::Leaf(code.leaves.len());
                    code.leaves.push(step.node);
                }
                Op::Batch => {
                    let sum = code.roots.len();
                    let rows = program.batches[step.node as usize].rows.iter();
                    let pairs = rows.flat_map(|row| &row.pairs);
                    code.roots.extend(pairs.map(|(_, root)| root));
                    let batch = Line::Batch(step.node as usize, operands.into_vec(), sum);
                    code.lines.push(batch);
                }
                Op::AndCount => {
                    code.and(scratch, &operands);
                    code.count(From::Slot(scratch), step.root);
                }
                Op::Count => code.count(places[step.out as usize], step.root),
                op => {
                    let out = *own_slots[step.out as usize].get_or_insert_with(|| {
                        code.slots += 1;
                        code.slots - 1
                    });
                    code.store(op, out, &operands);
                    places[step.out as usize] = From::Slot(out);
                    if step.root != NONE {
                        code.count_result(out, step.root, step.is_read);
                    }
                }
            }
        }
        let results = code
            .lines
            .iter()
            .filter(|line| matches!(line, Line::Set(..)));
        let pays_off = results.count() >= MIN_RESULTS && code.leaves.len() <= MAX_LEAVES;
        pays_off.then_some(code)
    }

    /// Adds the operation of a step that stores its result.
    fn store(&mut self, op: Op, out: usize, operands: &[From]) {
        match (op, operands) {
            (Op::And, _) => self.and(out, operands),
            (Op::Diff, [a, b]) => self.lines.push(Line::Set(Combine::Diff, out, [*a, *b])),
            (Op::OrAnd, [a, b]) => self.lines.push(Line::AddAnd(out, [*a, *b])),
            (Op::Set, [a]) => self.lines.push(Line::Copy(out, *a)),
            (Op::Or, [a]) => self.join(Combine::Or, out, *a),
            (Op::Xor, [a]) => self.join(Combine::Xor, out, *a),
            _ => unreachable!("the compiler creates no such step: {op:?} {operands:?}"),
        }
    }

    /// Returns the nodes whose tiles [`Strips::run`] needs, in order.
    pub fn leaves(&self) -> &[u32] {
        &self.leaves
    }

    fn and(&mut self, out: usize, operands: &[From]) {
        let [a, b, rest @ ..] = operands else {
            unreachable!("an intersection has two or more operands");
        };
        self.lines.push(Line::Set(Combine::And, out, [*a, *b]));
        let rest = rest.iter().map(|c| Line::Join(Combine::And, out, *c));
        self.lines.extend(rest);
    }

    /// Combines a result with an operand, in one pass if it was only copied so far.
    fn join(&mut self, combine: Combine, out: usize, operand: From) {
        match self.lines.last() {
            Some(Line::Copy(to, first)) if *to == out => {
                let both = [*first, operand];
                self.lines.pop();
                self.lines.push(Line::Set(combine, out, both));
            }
            _ => self.lines.push(Line::Join(combine, out, operand)),
        }
    }

    /// Counts a result. A union of two operands that no other step reads is not stored.
    fn count_result(&mut self, out: usize, root: u32, is_read: bool) {
        match self.lines.last() {
            Some(Line::Set(Combine::Or, _, both)) if !is_read => {
                let both = *both;
                self.lines.pop();
                self.lines.push(Line::CountEither(both, self.roots.len()));
                self.roots.push(root);
            }
            _ => self.count(From::Slot(out), root),
        }
    }

    fn count(&mut self, from: From, root: u32) {
        self.lines.push(Line::Count(from, self.roots.len()));
        self.roots.push(root);
    }
}

/// Executes a [`Code`]. Its memory is reused.
pub(super) struct Strips<'a> {
    program: &'a Program,
    code: &'a Code,
    /// The number of words of a strip.
    strip: usize,
    /// A strip for each slot, and room to begin at a cache line.
    words: Vec<u64>,
    sums: Vec<u64>,
}

impl<'a> Strips<'a> {
    pub fn new(program: &'a Program, code: &'a Code) -> Self {
        let mut strip = WORDS;
        while strip > MIN_STRIP && strip * code.slots > STRIPS {
            strip /= 2;
        }
        Strips {
            program,
            code,
            strip,
            words: vec![0; strip * code.slots + 8],
            sums: vec![0; code.roots.len()],
        }
    }

    /// Adds the number of users in each root to `counts`. `tiles` are those of the leaves; `None` is
    /// an empty tile.
    pub fn run(&mut self, tiles: &[Option<&Dense>], counts: &mut [u64]) {
        let leaves: Vec<&Words> = tiles
            .iter()
            .map(|tile| tile.map_or(&NOBODY, |dense| dense.words()))
            .collect();
        let strip = self.strip;
        let unaligned = self.words.as_ptr().align_offset(64) % 8;
        let mut slots: Vec<&mut [u64]> = self.words[unaligned..].chunks_exact_mut(strip).collect();
        leaves
            .iter()
            .for_each(|leaf| kernel::prefetch(&leaf.0[..strip]));
        let lines = self.code.lines.len();
        for start in (0..WORDS).step_by(strip) {
            let next = WORDS.min(start + strip)..WORDS.min(start + 2 * strip);
            for (number, line) in self.code.lines.iter().enumerate() {
                // The next strip is fetched bit by bit, while this one is computed.
                let share = number * leaves.len() / lines..(number + 1) * leaves.len() / lines;
                leaves[share]
                    .iter()
                    .for_each(|leaf| kernel::prefetch(&leaf.0[next.clone()]));
                let slot = match line {
                    Line::Copy(out, _)
                    | Line::Set(_, out, _)
                    | Line::Join(_, out, _)
                    | Line::AddAnd(out, _) => Some(*out),
                    Line::Count(..) | Line::CountEither(..) | Line::Batch(..) => None,
                };
                // The slot is taken out so that the others can be read meanwhile.
                let own = slot.map_or(&mut [][..], |slot| std::mem::take(&mut slots[slot]));
                let at = |from: &From| match from {
                    From::Leaf(leaf) => &leaves[*leaf].0[start..start + strip],
                    From::Slot(slot) => &*slots[*slot],
                };
                match line {
                    Line::Copy(_, a) => own.copy_from_slice(at(a)),
                    Line::Set(Combine::And, _, [a, b]) => kernel::set_and(own, at(a), at(b)),
                    Line::Set(Combine::Or, _, [a, b]) => kernel::set_or(own, at(a), at(b)),
                    Line::Set(Combine::Xor, _, [a, b]) => kernel::set_xor(own, at(a), at(b)),
                    Line::Set(Combine::Diff, _, [a, b]) => kernel::set_diff(own, at(a), at(b)),
                    Line::Join(Combine::And, _, a) => kernel::join_and(own, at(a)),
                    Line::Join(Combine::Or, _, a) => kernel::join_or(own, at(a)),
                    Line::Join(Combine::Xor, _, a) => kernel::join_xor(own, at(a)),
                    Line::Join(Combine::Diff, _, a) => kernel::join_diff(own, at(a)),
                    Line::CountEither([a, b], sum) => {
                        self.sums[*sum] += u64::from(kernel::count_either(at(a), at(b)));
                    }
                    Line::AddAnd(_, [a, b]) => kernel::add_and(own, at(a), at(b)),
                    Line::Count(a, sum) => self.sums[*sum] += u64::from(kernel::count(at(a))),
                    Line::Batch(batch, operands, sum) => {
                        let rows = &self.program.batches[*batch].rows;
                        let columns: Vec<&[u64]> = rows
                            .iter()
                            .flat_map(|row| &row.pairs)
                            .map(|(column, _)| at(&operands[*column as usize]))
                            .collect();
                        let rows: Vec<Row<'_>> = rows
                            .iter()
                            .map(|row| Row {
                                words: at(&operands[row.operand as usize]),
                                running: row.running,
                                range: 0..strip,
                                columns: row.pairs.len(),
                            })
                            .collect();
                        let sums = &mut self.sums[*sum..*sum + columns.len()];
                        kernel::and_counts(&rows, &columns, operands.len(), sums);
                    }
                }
                if let Some(slot) = slot {
                    slots[slot] = own;
                }
            }
        }
        for (root, sum) in self.code.roots.iter().zip(&mut self.sums) {
            counts[*root as usize] += std::mem::take(sum);
        }
    }
}

/// Whether strips are fast enough if so many of the leaves are dense: a list of few users takes
/// hardly any time as a tile, but as much as all others here.
pub(super) fn suits(dense: usize, leaves: usize) -> bool {
    4 * dense >= 3 * leaves
}
