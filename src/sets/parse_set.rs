//! Parses sets: expressions in which each name has a period.

use crate::calendar::Period;
use crate::sets::parse::{Expr, SyntaxError, parse};
use crate::sets::segment::Segments;
use crate::sets::{Set, Terms, When};

/// Parses a set, in which each name has a period: `active@2026-11-23`, or `(active & ios)@2026-11 &
/// premium@ever`.
///
/// # Errors
/// Returns an error if the syntax is wrong, if a name has no period, or if the set has more than
/// [`MAX_TERMS`](crate::sets::MAX_TERMS) terms.
pub fn parse_set(text: &str, saved: &Segments) -> Result<Set, SyntaxError> {
    to_set(&parse(text)?, None, saved, &mut Terms::default())
}

/// Converts an expression to a set. `when` is the time that applies to its names, if there is one.
fn to_set(
    expr: &Expr,
    when: Option<When>,
    saved: &Segments,
    terms: &mut Terms,
) -> Result<Set, SyntaxError> {
    let mut all = |list: &[Expr]| {
        list.iter()
            .map(|e| to_set(e, when, saved, terms))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(match expr {
        Expr::Name { name, column } => {
            let Some(when) = when else {
                let message = format!(
                    "`{name}` needs a period: write {name}@2026-11-23, {name}@2026-W48, {name}@2026-11, {name}@2026 or {name}@ever"
                );
                return Err(SyntaxError::new(*column, message));
            };
            let segment = saved.expand_name(name);
            let set = match when {
                When::In(period) => segment.at(period),
                When::Ever => segment.ever(),
            };
            terms
                .count(set.terms())
                .map_err(|error| SyntaxError::new(*column, error.to_string()))?;
            set
        }
        Expr::At { inner, when, .. } => to_set(inner, Some(*when), saved, terms)?,
        Expr::And(list) => Set::And(all(list)?),
        Expr::Or(list) => Set::Or(all(list)?),
        Expr::Xor(list) => Set::Xor(all(list)?),
        Expr::Diff(a, b) => to_set(a, when, saved, terms)? - to_set(b, when, saved, terms)?,
    })
}

/// Returns the periods of the names in the text of a set, without duplicates. The period of
/// `active@2026` is the year, although the set contains its months.
///
/// ```
/// use cohortist::sets::set_periods;
/// let periods = set_periods("active@2026 & !(web | ios@2026-10-01 | pro@ever)@2026-11")?;
/// assert_eq!(periods.iter().map(ToString::to_string).collect::<Vec<_>>(), ["2026", "2026-11", "2026-10-01"]);
/// # Ok::<(), cohortist::sets::SyntaxError>(())
/// ```
///
/// # Errors
/// Returns the errors of [`parse_set`], except for names without a period and for too many terms.
pub fn set_periods(text: &str) -> Result<Vec<Period>, SyntaxError> {
    let mut found = Vec::new();
    find_periods(&parse(text)?, None, &mut found);
    Ok(found)
}

fn find_periods(expr: &Expr, when: Option<When>, found: &mut Vec<Period>) {
    match expr {
        Expr::Name { .. } => match when {
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
