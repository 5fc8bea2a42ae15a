//! Parses sets: expressions in which each name has a period.

use crate::calendar::{Grain, Period, Zone};
use crate::sets::parse::{Expr, SyntaxError, parse};
use crate::sets::{Segment, Segments, Set, SetContext, Terms, When};

/// Parses a set, in which each name has a period: `active@2026-11-23`, or `(active & ios)@2026-11 &
/// premium@ever`.
///
/// Functions are evaluated with the bitmaps of the catalogue. `*` matches all events except the
/// hidden ones.
///
/// # Errors
/// Returns an error if the syntax is wrong, if a name has no period, or if the set has more than
/// [`MAX_TERMS`](crate::sets::MAX_TERMS) terms.
pub fn parse_set(text: &str, context: SetContext<'_>) -> Result<Set, SyntaxError> {
    to_set(&parse(text)?, None, context, &mut Terms::default())
}

/// Converts an expression to a set. `when` is the time that applies to its names, if there is one.
fn to_set(
    expr: &Expr,
    when: Option<When>,
    context: SetContext<'_>,
    terms: &mut Terms,
) -> Result<Set, SyntaxError> {
    let mut all = |list: &[Expr]| {
        list.iter()
            .map(|e| to_set(e, when, context, terms))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(match expr {
        Expr::Name { column, .. } | Expr::Names { column, .. } | Expr::Function { column, .. } => {
            let failed = |message: String| SyntaxError::new(*column, message);
            let segment = Segment::from_expr(expr)?;
            let Some(when) = when else {
                let ever = match segment.has_function() {
                    true => String::new(),
                    false => format!(" or {segment}@ever"),
                };
                return Err(failed(format!(
                    "`{segment}` needs a period: write {segment}@2026-11-23, {segment}@2026-W48, {segment}@2026-11, {segment}@2026{ever}"
                )));
            };
            let (segment, period) = match when {
                When::In(period) => {
                    let local = context.zone.same_named(period);
                    (segment, local.map_err(|error| failed(error.to_string()))?)
                }
                When::Ever if segment.has_function() => {
                    let message = "`@ever` cannot follow a function: functions look at periods";
                    return Err(failed(message.to_owned()));
                }
                // An undated segment is the same in every period.
                When::Ever => (segment.to_ever(), Period::earliest(Grain::Month)),
            };
            let expanded = context
                .expand(&segment)
                .map_err(|error| failed(error.to_string()))?;
            let set = expanded
                .at(period, context.catalogue)
                .map_err(|error| failed(error.to_string()))?;
            terms
                .count(set.terms())
                .map_err(|error| failed(error.to_string()))?;
            set
        }
        Expr::At { inner, when, .. } => to_set(inner, Some(*when), context, terms)?,
        Expr::And(list) => Set::And(all(list)?),
        Expr::Or(list) => Set::Or(all(list)?),
        Expr::Xor(list) => Set::Xor(all(list)?),
        Expr::Diff(a, b) => to_set(a, when, context, terms)? - to_set(b, when, context, terms)?,
    })
}

/// Returns whether [`parse_set`] needs the catalogue for this text: it contains `first`, `before` or
/// a pattern, directly or through saved segments.
///
/// # Errors
/// Returns an error if the syntax is wrong.
pub fn set_reads_catalogue(text: &str, segments: &Segments) -> Result<bool, SyntaxError> {
    reads_catalogue(&parse(text)?, segments)
}

fn reads_catalogue(expr: &Expr, segments: &Segments) -> Result<bool, SyntaxError> {
    match expr {
        Expr::At { inner, .. } => reads_catalogue(inner, segments),
        Expr::And(list) | Expr::Or(list) | Expr::Xor(list) => {
            for part in list {
                if reads_catalogue(part, segments)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Expr::Diff(a, b) => Ok(reads_catalogue(a, segments)? || reads_catalogue(b, segments)?),
        Expr::Name { .. } | Expr::Names { .. } | Expr::Function { .. } => {
            Ok(segments.read_catalogue(&Segment::from_expr(expr)?))
        }
    }
}

/// Returns the periods of the names in the text of a set, in a zone and without duplicates. The
/// period of `active@2026` is the year, although the set contains its months.
///
/// ```
/// use cohortist::{calendar::Zone, sets::set_periods};
/// let text = "active@2026 & !(web | ios@2026-10-01 | pro@ever)@2026-11";
/// let periods = set_periods(text, Zone::UTC)?;
/// assert_eq!(periods.iter().map(ToString::to_string).collect::<Vec<_>>(), ["2026", "2026-11", "2026-10-01"]);
/// # Ok::<(), cohortist::sets::SyntaxError>(())
/// ```
///
/// # Errors
/// Returns the errors of [`parse_set`], except for names without a period and for too many terms.
pub fn set_periods(text: &str, zone: Zone) -> Result<Vec<Period>, SyntaxError> {
    let mut found = Vec::new();
    find_periods(&parse(text)?, None, &mut found);
    let local = |period| zone.same_named(period);
    let local: Result<Vec<Period>, _> = found.into_iter().map(local).collect();
    local.map_err(|error| SyntaxError::new(1, error.to_string()))
}

fn find_periods(expr: &Expr, when: Option<When>, found: &mut Vec<Period>) {
    match expr {
        Expr::Name { .. } | Expr::Names { .. } | Expr::Function { .. } => match when {
            Some(When::In(period)) if !found.contains(&period) => found.push(period),
            _ => {}
        },
        Expr::At { inner, when, .. } => find_periods(inner, Some(*when), found),
        Expr::And(list) | Expr::Or(list) | Expr::Xor(list) => {
            list.iter().for_each(|e| find_periods(e, when, found))
        }
        Expr::Diff(a, b) => {
            find_periods(a, when, found);
            find_periods(b, when, found);
        }
    }
}
