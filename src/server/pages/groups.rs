//! The answer to a comparison as the page shows it: figures, curves, average rows, differences, and
//! the cohorts of one group.

use crate::render::comparison::{Look, drawing, looks_of};
use crate::render::drawing::Drawing;
use crate::render::{groups, thousands, words};
use crate::reports::comparison::{Compared, Difference, Group, GroupKind, NoTest, Verdict};
use crate::reports::retention::{FEWEST_PEOPLE, Show, Table};
use crate::server::State;
use crate::server::pages::grid::{Grid, Mean, Shades, Tile, means};
use crate::server::pages::links;
use crate::server::pages::switches::{Switch, switches};
use crate::server::query::PageQuery;
use crate::sets::Segment;

/// The average row of a group.
#[derive(Debug)]
pub struct GroupLine {
    /// The name, without the beginning that all values have.
    pub name: String,
    /// The whole name.
    pub title: String,
    /// The address of the page with its cohorts.
    pub href: String,
    /// Whether its cohorts are shown.
    pub is_open: bool,
    /// The colour and dash of its line. `None` if it has none.
    pub look: Option<Look>,
    /// The distinct people.
    pub people: String,
    /// The averages; `None` for a column without a complete cell.
    pub means: Vec<Option<GroupMean>>,
}

/// One average.
#[derive(Debug)]
pub struct GroupMean {
    /// The average.
    pub mean: Mean,
    /// Whether it is of fewer than 30 people.
    pub is_small: bool,
}

/// The differences of two groups.
#[derive(Debug)]
pub struct DifferenceLine {
    /// `pro − free, points`
    pub name: String,
    /// One for each column, `None` where there is none.
    pub cells: Vec<Option<DifferenceCell>>,
}

/// One difference.
#[derive(Debug)]
pub struct DifferenceCell {
    /// `+7.6`
    pub text: String,
    /// A sentence about it.
    pub about: String,
    /// Whether it is unlikely to be chance.
    pub is_sure: bool,
}

/// The heading of a column.
#[derive(Debug)]
pub struct Heading {
    /// `7`
    pub label: String,
    /// The address of the page with the figures of this column.
    pub href: String,
    /// Whether the figures are of this column.
    pub is_picked: bool,
}

/// The answer.
#[derive(Debug)]
pub struct Groups {
    /// When it was known who belongs to a group.
    pub basis: String,
    /// Figures of one column.
    pub tiles: Vec<Tile>,
    /// The curves.
    pub drawing: Drawing,
    /// The headings of the columns.
    pub headings: Vec<Heading>,
    /// The average rows.
    pub lines: Vec<GroupLine>,
    /// The differences of each other group to the first.
    pub differences: Vec<DifferenceLine>,
    /// The cohorts of one group.
    pub grid: Grid,
    /// Which group that is.
    pub open: usize,
    /// What a reader has to know.
    pub notes: Vec<String>,
    /// The address of the same question with first-time cohorts, if repeats prevent a test.
    pub first_times: Option<String>,
    /// Whether a difference is unlikely to be chance.
    pub has_sure: bool,
    /// How many tests the correction covers.
    pub tests: usize,
    /// Views of the same numbers.
    pub switches: [Switch; 2],
}

/// The group whose cohorts are shown: the one asked for, or the first.
pub fn open_group(compared: &Compared, asked: &PageQuery) -> usize {
    let wanted = |group: &Group| asked.group.as_deref() == Some(&*group.kind.name());
    let mut groups = compared.groups.iter();
    groups.position(wanted).unwrap_or(0)
}

impl Groups {
    /// Returns the parts of the page.
    pub fn new(state: &State, asked: &PageQuery, compared: &Compared) -> Self {
        let open = open_group(compared, asked);
        let tables: Vec<&Table> = compared.groups.iter().map(|group| &group.table).collect();
        let shades = Shades::new(&tables, asked);
        let looks = looks_of(compared);
        let short = |at: usize| {
            let name = groups::short_name(&compared.grouping, &compared.groups[at].kind);
            words::shortened(&name, 32)
        };
        let lines = compared.groups.iter().enumerate().map(|(at, group)| {
            let name = group.kind.name();
            let href = links::retention(
                state,
                &PageQuery {
                    group: Some(name.clone()),
                    ..asked.clone()
                },
            );
            GroupLine {
                name: short(at),
                title: name,
                href,
                is_open: at == open,
                look: looks[at],
                people: thousands(group.table.people),
                means: group_means(state, group, asked.show, shades),
            }
        });
        let differences = (1..compared.groups.len()).filter_map(|at| {
            let all: Vec<&Difference> = compared.differences_of(at).collect();
            let first = all.first()?;
            let mut cells: Vec<Option<DifferenceCell>> =
                tables[0].averages.iter().map(|_| None).collect();
            for difference in &all {
                cells[difference.column] = cell(compared, difference);
            }
            Some(DifferenceLine {
                name: format!("{} − {}", short(first.of), short(first.minus)),
                cells,
            })
        });
        let picked = picked(compared, asked);
        let heading = |(place, column): (usize, crate::reports::retention::Column)| Heading {
            label: column.label(),
            href: links::retention(
                state,
                &PageQuery {
                    trend: u32::try_from(place).ok(),
                    ..asked.clone()
                },
            ),
            is_picked: picked == Some(place),
        };
        let shown = &compared.groups[open];
        let grid = Grid {
            is_linked: shown.cohort.is_some(),
            ..Grid::shaded(state, &shown.table, asked, shades)
        };
        let repeats = compared
            .differences
            .iter()
            .any(|difference| difference.reason == Some(NoTest::Repeats));
        let verdicts = || compared.differences.iter().filter_map(Difference::verdict);
        let mut notes = groups::notes(compared);
        notes.remove(0);
        Groups {
            basis: groups::basis(compared),
            tiles: tiles(compared, picked),
            drawing: drawing(compared, asked.goal),
            headings: compared.query.columns().enumerate().map(heading).collect(),
            lines: lines.collect(),
            differences: differences.collect(),
            open,
            notes,
            first_times: first_times(asked)
                .filter(|_| repeats)
                .map(|asked| links::retention(state, &asked)),
            has_sure: verdicts().any(|verdict| verdict == Verdict::Unlikely),
            tests: compared.tests,
            switches: switches(state, asked, grid.scale()),
            grid,
        }
    }

    /// The class of the colour of the group whose cohorts are shown.
    pub fn open_class(&self) -> &'static str {
        self.lines[self.open].look.map_or("c0", |look| look.class)
    }

    /// The line of the group whose cohorts are shown.
    pub fn open_line(&self) -> &GroupLine {
        &self.lines[self.open]
    }
}

/// The same question with people who do the first event for the first time.
fn first_times(asked: &PageQuery) -> Option<PageQuery> {
    let cohort = &asked.bare.cohort;
    let can = !cohort.has_function() && !cohort.is_undated();
    can.then(|| {
        let mut asked = asked.clone();
        asked.bare.cohort = Segment::First(Box::new(asked.bare.cohort));
        asked
    })
}

fn group_means(state: &State, group: &Group, show: Show, shades: Shades) -> Vec<Option<GroupMean>> {
    let table = &group.table;
    let means = means(state, table, show, shades).into_iter().enumerate();
    means
        .map(|(place, mean)| {
            let mut mean = mean?;
            // Without a text for the group its table names the people of all groups.
            mean.href = mean.href.filter(|_| group.cohort.is_some());
            let average = table.averages[place].filter(|_| show != Show::Previous);
            let is_small = average.is_some_and(|average| average.size < FEWEST_PEOPLE);
            if let Some(average) = average.filter(|_| is_small) {
                mean.text = words::whole_percent(average.rate);
            }
            Some(GroupMean { mean, is_small })
        })
        .collect()
}

fn cell(compared: &Compared, difference: &Difference) -> Option<DifferenceCell> {
    let column = compared.query.column(difference.column)?;
    Some(DifferenceCell {
        text: difference.points()?,
        about: format!(
            "{} {}: {}",
            compared.query.grain,
            column.label(),
            groups::difference(compared, difference)?
        ),
        is_sure: difference.verdict() == Some(Verdict::Unlikely),
    })
}

/// The column of the figures: the one asked for, or the last with people enough in every group, but
/// not so late that few cohorts reach it.
fn picked(compared: &Compared, asked: &PageQuery) -> Option<usize> {
    if let Some(column) = asked.trend.and_then(|column| usize::try_from(column).ok()) {
        return Some(column);
    }
    let differences: Vec<&Difference> = compared.differences_of(1).collect();
    let most = differences.iter().map(|of| of.cohorts).max()?;
    let mut usable = differences
        .iter()
        .filter(|of| of.estimate.is_some() && of.cohorts * 2 >= most);
    usable
        .next_back()
        .or(differences.first())
        .map(|of| of.column)
}

/// The difference of the first two groups at a column, and the rates of the groups.
fn tiles(compared: &Compared, column: Option<usize>) -> Vec<Tile> {
    let Some(place) = column else {
        return Vec::new();
    };
    let first = &compared.groups[0].table;
    let when = words::column(first, place);
    let name = |at: usize| {
        let name = groups::short_name(&compared.grouping, &compared.groups[at].kind);
        words::shortened(&name, 24)
    };
    let mut tiles = Vec::new();
    let mut differences = compared.differences_of(1);
    if let Some(difference) = differences.find(|of| of.column == place) {
        let label = format!(
            "{} over {} {when}",
            name(difference.of),
            name(difference.minus)
        );
        let mut note: Vec<String> = difference.interval_points().into_iter().collect();
        note.extend(
            difference
                .verdict()
                .map(|verdict| verdict.words().to_owned()),
        );
        let reason = difference
            .reason
            .and_then(|why| groups::reason(compared, why));
        note.extend(reason);
        tiles.push(Tile {
            value: difference
                .points()
                .map(|points| format!("{points}\u{a0}pt")),
            label,
            note: note.join(" · "),
        });
    }
    let shown = compared.groups.iter().enumerate().take(3);
    tiles.extend(shown.map(|(at, group)| {
        let average = group.table.averages[place];
        Tile {
            value: average.map(|average| words::percent(average.rate)),
            label: format!("{} {when}", name(at)),
            note: match average {
                Some(average) => format!(
                    "{} of {}",
                    thousands(average.retained),
                    words::people(average.size)
                ),
                None => words::none_complete("period", group.table.data_ends),
            },
        }
    }));
    tiles
}

/// Words for what the cohorts below the average rows are.
pub fn unfolded(compared: &Compared, open: usize) -> String {
    let group = &compared.groups[open];
    let grain = compared.query.grain;
    let cohort = words::shortened(
        &compared.query.cohort.phrase(&group.table.labels, grain),
        60,
    );
    match group.kind {
        GroupKind::Before | GroupKind::After => format!(
            "{}, by {grain} of {cohort}",
            groups::short_name(&compared.grouping, &group.kind)
        ),
        _ => format!("{}, by {grain} of {cohort}", groups::name(&group.kind)),
    }
}
