//! The text of segments and sets: a small recursive-descent parser with errors that point.
//!
//! Loosest first: `|`, `^`, `&`, `!`, then names, parentheses and `@`.

use crate::calendar::Period;
use crate::sets::segment::operand;
use crate::sets::{EventName, Labels, Segments, Set, Terms, When};

/// What is wrong in an expression, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct SyntaxError {
    /// The character the error points at, counted from 1.
    pub column: usize,
    /// What was expected there, or which rule was broken.
    pub message: String,
}

impl SyntaxError {
    pub(super) fn new(column: usize, message: impl Into<String>) -> Self {
        SyntaxError {
            column,
            message: message.into(),
        }
    }
}

/// An expression as written, before it is known whether it is a segment or a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expr {
    Name {
        name: EventName,
        column: usize,
    },
    At {
        inner: Box<Expr>,
        when: When,
        column: usize,
    },
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Xor(Vec<Expr>),
    Diff(Box<Expr>, Box<Expr>),
}

/// How deep parentheses may nest: far beyond what people write, far below what would overflow a
/// stack.
const MAX_DEPTH: usize = 64;

/// The most characters an expression may have, blanks left aside: those are set anew when it is
/// printed, and what is printed has to be read back.
const MAX_CHARS: usize = 10_000;

/// How many differences may stand one in the other; what more of them take away is put together and
/// taken away at once. Otherwise the tree of a long row of `& !` were as deep as the row is long,
/// and whoever walks it overflowed the stack.
const MAX_CHAIN: usize = 8;

/// Reads a set whose names are tied to periods: `active@2026-11-23`, `(active & ios)@2026-11 &
/// premium@ever`.
///
/// # Errors
/// The column and what was expected there; also for a name that no period is given for, and for the
/// name with which the set gets more than [`MAX_TERMS`](crate::sets::MAX_TERMS) terms.
pub fn parse_set(text: &str, saved: &Segments) -> Result<Set, SyntaxError> {
    tie(&parse(text)?, None, saved, &mut Terms::default())
}

fn tie(
    expr: &Expr,
    when: Option<When>,
    saved: &Segments,
    terms: &mut Terms,
) -> Result<Set, SyntaxError> {
    let mut all = |list: &[Expr]| {
        list.iter()
            .map(|e| tie(e, when, saved, terms))
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
        Expr::At { inner, when, .. } => tie(inner, Some(*when), saved, terms)?,
        Expr::And(list) => Set::And(all(list)?),
        Expr::Or(list) => Set::Or(all(list)?),
        Expr::Xor(list) => Set::Xor(all(list)?),
        Expr::Diff(a, b) => tie(a, when, saved, terms)? - tie(b, when, saved, terms)?,
    })
}

/// The periods that a set's text ties its names to, as they are written, each once: that of
/// `active@2026` is the year, where the set has its months.
///
/// ```
/// use cohortist::sets::set_periods;
/// let periods = set_periods("active@2026 & !(web | ios@2026-10-01 | pro@ever)@2026-11")?;
/// assert_eq!(periods.iter().map(ToString::to_string).collect::<Vec<_>>(), ["2026", "2026-11", "2026-10-01"]);
/// # Ok::<(), cohortist::sets::SyntaxError>(())
/// ```
///
/// # Errors
/// Those of [`parse_set`], but for names without a period.
pub fn set_periods(text: &str) -> Result<Vec<Period>, SyntaxError> {
    fn walk(expr: &Expr, when: Option<When>, found: &mut Vec<Period>) {
        match expr {
            Expr::Name { .. } => match when {
                Some(When::In(period)) if !found.contains(&period) => found.push(period),
                _ => {}
            },
            Expr::At { inner, when, .. } => walk(inner, Some(*when), found),
            Expr::And(list) | Expr::Or(list) | Expr::Xor(list) => {
                list.iter().for_each(|e| walk(e, when, found))
            }
            Expr::Diff(a, b) => {
                walk(a, when, found);
                walk(b, when, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(&parse(text)?, None, &mut found);
    Ok(found)
}

/// The text of a segment or a set for people: its events by their labels, everything else as it is
/// written. A text that cannot be read stays as it is.
///
/// ```
/// use cohortist::sets::{EventName, Labels, labelled};
/// let labels: Labels = [(EventName::new("active")?, "Are active".to_owned())].into();
/// assert_eq!(labelled("(active|web)@2026-11 & \"active\"@ever", &labels), "(Are active|web)@2026-11 & Are active@ever");
/// # Ok::<(), cohortist::sets::EventNameError>(())
/// ```
pub fn labelled(text: &str, labels: &Labels) -> String {
    let (Ok(found), false) = (tokens(text), labels.is_empty()) else {
        return text.to_owned();
    };
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut is_period = false;
    let mut written = 0;
    for (i, (column, token)) in found.iter().enumerate() {
        let next = found
            .get(i + 1)
            .map_or(chars.len(), |(column, _)| column - 1);
        let label = match token {
            Token::Word(name) | Token::Quoted(name) if !is_period => {
                EventName::new(name).ok().and_then(|name| labels.get(&name))
            }
            _ => None,
        };
        if let Some(label) = label {
            let token = chars.get(column - 1..next).unwrap_or_default();
            let blanks = token.iter().rev().take_while(|c| c.is_whitespace()).count();
            out.extend(chars.get(written..column - 1).unwrap_or_default());
            out.push_str(&operand(label));
            written = next - blanks;
        }
        is_period = *token == Token::Symbol('@');
    }
    out.extend(chars.get(written..).unwrap_or_default());
    out
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Symbol(char),
    Word(String),
    Quoted(String),
}

pub(super) fn is_special(c: char) -> bool {
    c.is_whitespace() || matches!(c, '&' | '|' | '^' | '!' | '(' | ')' | '@' | '"')
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, SyntaxError> {
    let (mut found, mut blanks) = (Vec::new(), 0);
    let mut chars = text.chars().enumerate().map(|(i, c)| (i + 1, c)).peekable();
    while let Some(&(column, c)) = chars.peek() {
        if column - blanks > MAX_CHARS {
            return Err(SyntaxError::new(
                column,
                format!("an expression may have at most {MAX_CHARS} characters"),
            ));
        }
        if c.is_whitespace() {
            blanks += 1;
            chars.next();
        } else if c == '"' {
            chars.next();
            let mut name = String::new();
            loop {
                match chars.next() {
                    Some((_, '"')) => break,
                    Some((at, '\\')) => match chars.next() {
                        Some((_, escaped @ ('"' | '\\'))) => name.push(escaped),
                        _ => {
                            return Err(SyntaxError::new(
                                at,
                                "expected `\\\"` or `\\\\` inside quotes",
                            ));
                        }
                    },
                    Some((_, other)) => name.push(other),
                    None => {
                        return Err(SyntaxError::new(
                            column,
                            "this quote is never closed: expected another `\"`",
                        ));
                    }
                }
            }
            found.push((column, Token::Quoted(name)));
        } else if is_special(c) {
            chars.next();
            found.push((column, Token::Symbol(c)));
        } else {
            let mut word = String::new();
            while let Some((_, c)) = chars.next_if(|(_, c)| !is_special(*c)) {
                word.push(c);
            }
            found.push((column, Token::Word(word)));
        }
    }
    Ok(found)
}

pub(super) fn parse(text: &str) -> Result<Expr, SyntaxError> {
    let end = text.chars().count() + 1;
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        end,
        depth: 0,
    };
    let expr = parser.union()?;
    match parser.peek() {
        None => Ok(expr),
        Some(Token::Symbol(')')) => Err(parser.error("this `)` has no `(` before it")),
        Some(_) => Err(parser.expected("`&`, `|`, `^` or the end")),
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    end: usize,
    depth: usize,
}

/// An operand of `&`, with or without a `!`.
struct Operand {
    negated: bool,
    column: usize,
    expr: Expr,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn column(&self) -> usize {
        self.tokens
            .get(self.at)
            .map_or(self.end, |(column, _)| *column)
    }

    fn take(&mut self, symbol: char) -> bool {
        let here = self.peek() == Some(&Token::Symbol(symbol));
        self.at += usize::from(here);
        here
    }

    fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError::new(self.column(), message)
    }

    fn expected(&self, what: &str) -> SyntaxError {
        let found = match self.peek() {
            None => "the end".to_owned(),
            Some(Token::Symbol(c)) => format!("`{c}`"),
            Some(Token::Word(word) | Token::Quoted(word)) => {
                format!(
                    "`{}`",
                    word.chars()
                        .take(30)
                        .flat_map(char::escape_debug)
                        .collect::<String>()
                )
            }
        };
        self.error(format!("expected {what}, found {found}"))
    }

    fn union(&mut self) -> Result<Expr, SyntaxError> {
        self.joined('|', Parser::odd, Expr::Or)
    }

    fn odd(&mut self) -> Result<Expr, SyntaxError> {
        self.joined('^', Parser::all, Expr::Xor)
    }

    fn joined(
        &mut self,
        symbol: char,
        operand: fn(&mut Self) -> Result<Expr, SyntaxError>,
        make: fn(Vec<Expr>) -> Expr,
    ) -> Result<Expr, SyntaxError> {
        let first = operand(self)?;
        let mut list = vec![first];
        while self.take(symbol) {
            list.push(operand(self)?);
        }
        Ok(one_or(list, make))
    }

    fn all(&mut self) -> Result<Expr, SyntaxError> {
        let mut operands = vec![self.operand()?];
        while self.take('&') {
            operands.push(self.operand()?);
        }
        let (without, with): (Vec<_>, Vec<_>) = operands.into_iter().partition(|o| o.negated);
        if with.is_empty() {
            let first = &without[0];
            let message =
                "`!` has nothing to subtract from: write `a & !b`, people in a and not in b";
            return Err(SyntaxError::new(first.column, message));
        }
        let mut kept = one_or(with.into_iter().map(|o| o.expr).collect(), Expr::And);
        let Some(at) = without.first().map(|first| first.column) else {
            return Ok(kept);
        };
        let mut without: Vec<Expr> = without.into_iter().map(|o| o.expr).collect();
        if chain(&kept) + without.len() > MAX_CHAIN {
            // It prints with parentheses, which have to be allowed.
            self.within_depth(self.depth + 1, at)?;
            while let Expr::Diff(a, b) = kept {
                without.insert(0, *b);
                kept = *a;
            }
            let flat = without.into_iter().flat_map(|expr| match expr {
                Expr::Or(list) => list,
                other => vec![other],
            });
            without = vec![Expr::Or(flat.collect())];
        }
        Ok(without
            .into_iter()
            .fold(kept, |a, b| Expr::Diff(Box::new(a), Box::new(b))))
    }

    fn within_depth(&self, depth: usize, column: usize) -> Result<(), SyntaxError> {
        if depth <= MAX_DEPTH {
            return Ok(());
        }
        Err(SyntaxError::new(
            column,
            format!("parentheses nest deeper than {MAX_DEPTH}"),
        ))
    }

    fn operand(&mut self) -> Result<Operand, SyntaxError> {
        let column = self.column();
        let mut negated = false;
        while self.take('!') {
            negated = !negated;
        }
        Ok(Operand {
            negated,
            column,
            expr: self.atom()?,
        })
    }

    fn atom(&mut self) -> Result<Expr, SyntaxError> {
        let column = self.column();
        let mut expr = if self.take('(') {
            self.depth += 1;
            self.within_depth(self.depth, column)?;
            let inner = self.union()?;
            if !self.take(')') {
                return Err(match self.peek() {
                    None => self.error(format!(
                        "a `)` is missing: the `(` at column {column} is never closed"
                    )),
                    Some(_) => self.expected("`&`, `|`, `^` or `)`"),
                });
            }
            self.depth -= 1;
            inner
        } else {
            let (Some(Token::Word(text)) | Some(Token::Quoted(text))) = self.peek() else {
                return Err(self.expected("an event name or `(`"));
            };
            let name = EventName::new(text).map_err(|e| SyntaxError::new(column, e.to_string()))?;
            self.at += 1;
            Expr::Name { name, column }
        };
        let at = self.column();
        if self.take('@') {
            let column = self.column();
            let when = match self.peek() {
                Some(Token::Word(word)) if word == "ever" => When::Ever,
                Some(Token::Word(word)) => When::In(
                    word.parse::<Period>()
                        .map_err(|e| SyntaxError::new(column, format!("{e}, or `ever`")))?,
                ),
                _ => {
                    return Err(
                        self.expected("a period such as 2026-11-23, 2026-W48, 2026-11 or `ever`")
                    );
                }
            };
            self.at += 1;
            expr = Expr::At {
                inner: Box::new(expr),
                when,
                column: at,
            };
        }
        Ok(expr)
    }
}

/// How many differences stand in each other's left side, as they do without parentheses.
fn chain(mut expr: &Expr) -> usize {
    let mut found = 0;
    while let Expr::Diff(a, _) = expr {
        (expr, found) = (a, found + 1);
    }
    found
}

fn one_or(mut list: Vec<Expr>, make: fn(Vec<Expr>) -> Expr) -> Expr {
    if list.len() == 1 {
        list.remove(0)
    } else {
        make(list)
    }
}
