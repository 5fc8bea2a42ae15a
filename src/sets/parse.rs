//! A recursive-descent parser for segments and sets. Its errors contain the column.
//!
//! Operators in ascending order of precedence: `|`, `^`, `&`, `!`, then names, parentheses and `@`.

use crate::calendar::Period;
use crate::sets::{EventName, Offsets, When};

/// What is wrong in an expression, and the position of the error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct SyntaxError {
    /// The position of the error in characters, counted from 1.
    pub column: usize,
    /// What was expected there, or which rule is broken.
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

/// A parsed expression, which may become a segment or a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expr {
    Name {
        name: EventName,
        column: usize,
    },
    /// All names with this beginning.
    Names {
        start: String,
        column: usize,
    },
    Function {
        function: Function,
        of: Box<Expr>,
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

/// A function of one expression, with its other arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Before,
    First,
    Within(Offsets),
    AtLeast(u32, Offsets),
}

/// The names of the functions. Each is reserved only directly before a `(`.
const FUNCTIONS: [&str; 4] = ["before", "first", "within", "atleast"];

/// The maximum nesting depth of parentheses. It is more than people write and too little to
/// overflow the stack.
pub(super) const MAX_DEPTH: usize = 64;

/// The maximum number of characters in an expression, without white space. White space does not
/// count because a printed expression may have more of it, and it must be possible to parse that.
pub(super) const MAX_CHARS: usize = 10_000;

/// The maximum number of nested differences. If there are more, their right sides are combined into
/// one. Otherwise a long sequence of `& !` would create a tree so deep that visiting it overflows
/// the stack.
pub(super) const MAX_NESTED_DIFFS: usize = 8;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Symbol(char),
    Word(String),
    Quoted(String),
}

/// Returns whether a character ends a name that is not quoted.
pub(super) fn is_special(c: char) -> bool {
    c.is_whitespace() || matches!(c, '&' | '|' | '^' | '!' | '(' | ')' | '@' | '"')
}

/// Whether the innermost open parenthesis belongs to a function.
fn in_function(open: &[bool]) -> bool {
    open.last() == Some(&true)
}

/// Whether tokens begin with the name of a function and, directly after it, a `(`.
pub(super) fn is_call(tokens: &[(usize, Token)]) -> bool {
    match tokens {
        [(at, Token::Word(name)), (next, Token::Symbol('(')), ..] => {
            FUNCTIONS.contains(&name.as_str()) && *next == at + name.len()
        }
        _ => false,
    }
}

/// Splits an expression into tokens, each with its column.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, SyntaxError> {
    let mut found: Vec<(usize, Token)> = Vec::new();
    let mut blanks = 0;
    // For each open parenthesis, whether it is that of a function, or inside of one.
    let mut open: Vec<bool> = Vec::new();
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
            found.push((column, Token::Quoted(quoted(column, &mut chars)?)));
        } else if is_special(c) || (c == ',' && in_function(&open)) {
            chars.next();
            found.push((column, Token::Symbol(c)));
            if c == '(' {
                let call = found.len().saturating_sub(2);
                open.push(in_function(&open) || is_call(&found[call..]));
            } else if c == ')' {
                open.pop();
            }
        } else {
            let mut word = String::new();
            let ends = |c: char| is_special(c) || (c == ',' && in_function(&open));
            while let Some((_, c)) = chars.next_if(|(_, c)| !ends(*c)) {
                word.push(c);
            }
            found.push((column, Token::Word(word)));
        }
    }
    Ok(found)
}

/// Reads a quoted name up to its closing quote. `column` is that of the opening quote.
pub(super) fn quoted(
    column: usize,
    chars: &mut impl Iterator<Item = (usize, char)>,
) -> Result<String, SyntaxError> {
    let mut name = String::new();
    loop {
        match chars.next() {
            Some((_, '"')) => return Ok(name),
            Some((at, '\\')) => match chars.next() {
                Some((_, escaped @ ('"' | '\\'))) => name.push(escaped),
                _ => {
                    let message = "expected `\\\"` or `\\\\` inside quotes";
                    return Err(SyntaxError::new(at, message));
                }
            },
            Some((_, other)) => name.push(other),
            None => {
                let message = "this quote is never closed: expected another `\"`";
                return Err(SyntaxError::new(column, message));
            }
        }
    }
}

/// Parses a segment or a set.
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

pub(super) struct Parser {
    pub(super) tokens: Vec<(usize, Token)>,
    /// The index of the next token.
    pub(super) at: usize,
    /// The column after the last character.
    pub(super) end: usize,
    /// The number of open parentheses.
    pub(super) depth: usize,
}

/// An operand of `&`, with or without a `!`.
pub(super) struct Operand {
    pub(super) negated: bool,
    pub(super) column: usize,
    pub(super) expr: Expr,
}

impl Parser {
    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    pub(super) fn column(&self) -> usize {
        self.tokens
            .get(self.at)
            .map_or(self.end, |(column, _)| *column)
    }

    /// Skips the next token if it is this symbol. Returns whether it is.
    pub(super) fn take(&mut self, symbol: char) -> bool {
        let is_next = self.peek() == Some(&Token::Symbol(symbol));
        self.at += usize::from(is_next);
        is_next
    }

    pub(super) fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError::new(self.column(), message)
    }

    pub(super) fn expected(&self, what: &str) -> SyntaxError {
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

    pub(super) fn union(&mut self) -> Result<Expr, SyntaxError> {
        self.joined('|', Parser::symmetric_difference, Expr::Or)
    }

    pub(super) fn symmetric_difference(&mut self) -> Result<Expr, SyntaxError> {
        self.joined('^', Parser::intersection, Expr::Xor)
    }

    pub(super) fn joined(
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

    /// Parses operands of `&`. Those with a `!` are subtracted from the others.
    pub(super) fn intersection(&mut self) -> Result<Expr, SyntaxError> {
        let mut operands = vec![self.operand()?];
        while self.take('&') {
            operands.push(self.operand()?);
        }
        let (negated, plain): (Vec<_>, Vec<_>) = operands.into_iter().partition(|o| o.negated);
        if plain.is_empty() {
            let message =
                "`!` has nothing to subtract from: write `a & !b`, people in a but not in b";
            return Err(SyntaxError::new(negated[0].column, message));
        }
        let mut minuend = one_or(plain.into_iter().map(|o| o.expr).collect(), Expr::And);
        let Some(column) = negated.first().map(|first| first.column) else {
            return Ok(minuend);
        };
        let mut subtracted: Vec<Expr> = negated.into_iter().map(|o| o.expr).collect();
        if nested_diffs(&minuend) + subtracted.len() > MAX_NESTED_DIFFS {
            // The combined right side is printed in parentheses, which the parser must accept.
            check_depth(self.depth + 1, column)?;
            while let Expr::Diff(a, b) = minuend {
                subtracted.insert(0, *b);
                minuend = *a;
            }
            let flat = subtracted.into_iter().flat_map(|expr| match expr {
                Expr::Or(list) => list,
                other => vec![other],
            });
            subtracted = vec![Expr::Or(flat.collect())];
        }
        Ok(subtracted
            .into_iter()
            .fold(minuend, |a, b| Expr::Diff(Box::new(a), Box::new(b))))
    }

    pub(super) fn operand(&mut self) -> Result<Operand, SyntaxError> {
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

    /// Parses a name or an expression in parentheses, with the period after it, if there is one.
    pub(super) fn atom(&mut self) -> Result<Expr, SyntaxError> {
        let column = self.column();
        let expr = if self.take('(') {
            self.parenthesized(column)?
        } else if is_call(&self.tokens[self.at..]) {
            self.function()?
        } else if let Some(Token::Word(text)) = self.peek()
            && let Some(start) = text.strip_suffix('*')
        {
            let start = start.to_owned();
            if start.contains([',', '*']) {
                let message =
                    "a pattern is the beginning of a name and one `*`, without a comma: plan:*";
                return Err(self.error(message));
            }
            self.at += 1;
            Expr::Names { start, column }
        } else {
            let (Some(Token::Word(text)) | Some(Token::Quoted(text))) = self.peek() else {
                return Err(self.expected("an event name or `(`"));
            };
            let name = EventName::new(text).map_err(|e| SyntaxError::new(column, e.to_string()))?;
            self.at += 1;
            Expr::Name { name, column }
        };
        let at = self.column();
        if !self.take('@') {
            return Ok(expr);
        }
        Ok(Expr::At {
            inner: Box::new(expr),
            when: self.when()?,
            column: at,
        })
    }

    /// Parses a function with its arguments.
    fn function(&mut self) -> Result<Expr, SyntaxError> {
        let column = self.column();
        let Some(Token::Word(name)) = self.peek().cloned() else {
            unreachable!("a call begins with a name");
        };
        // The name and the `(`.
        self.at += 2;
        self.depth += 1;
        check_depth(self.depth, column)?;
        let least = match name.as_str() {
            "atleast" => {
                let least_column = self.column();
                let least = self.least()?;
                self.comma("atleast(3, active, -6..0)")?;
                Some((least, least_column))
            }
            _ => None,
        };
        let of = self.union()?;
        refuse_period(&of)?;
        let function = match (name.as_str(), least) {
            ("before", _) => Function::Before,
            ("first", _) => Function::First,
            (_, None) => {
                self.comma("within(active, -4..-1)")?;
                Function::Within(self.offsets()?)
            }
            (_, Some((least, least_column))) => {
                self.comma("atleast(3, active, -6..0)")?;
                let offsets = self.offsets()?;
                if least as usize > offsets.len() {
                    let message = format!(
                        "expected a number from 1 to {}, the number of periods in {offsets}, found `{least}`",
                        offsets.len()
                    );
                    return Err(SyntaxError::new(least_column, message));
                }
                Function::AtLeast(least, offsets)
            }
        };
        if !self.take(')') {
            return Err(self.expected("`)`"));
        }
        self.depth -= 1;
        Ok(Expr::Function {
            function,
            of: Box::new(of),
            column,
        })
    }

    /// Skips a comma between arguments.
    fn comma(&mut self, example: &str) -> Result<(), SyntaxError> {
        if self.take(',') {
            Ok(())
        } else {
            Err(self.expected(&format!("a comma, as in {example}")))
        }
    }

    /// Parses the first argument of `atleast`.
    fn least(&mut self) -> Result<u32, SyntaxError> {
        match self.peek() {
            Some(Token::Word(word)) => match word.parse() {
                Ok(least) if least > 0 => {
                    self.at += 1;
                    Ok(least)
                }
                _ => Err(self.expected("a number of periods, at least 1")),
            },
            _ => Err(self.expected("a number of periods, at least 1")),
        }
    }

    /// Parses a range such as `-4..-1`.
    fn offsets(&mut self) -> Result<Offsets, SyntaxError> {
        let parsed = match self.peek() {
            Some(Token::Word(word)) => word
                .split_once("..")
                .and_then(|(from, until)| Offsets::new(from.parse().ok()?, until.parse().ok()?)),
            _ => None,
        };
        let Some(offsets) = parsed else {
            let what = format!(
                "a range of periods such as -4..-1, the smaller number first and none beyond {}",
                Offsets::MAX
            );
            return Err(self.expected(&what));
        };
        self.at += 1;
        Ok(offsets)
    }

    /// Parses the rest of an expression in parentheses. `column` is that of the `(`.
    pub(super) fn parenthesized(&mut self, column: usize) -> Result<Expr, SyntaxError> {
        self.depth += 1;
        check_depth(self.depth, column)?;
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
        Ok(inner)
    }

    /// Parses what follows `@`.
    pub(super) fn when(&mut self) -> Result<When, SyntaxError> {
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
        Ok(when)
    }
}

/// Checks that no name in a function's argument has a period of its own.
fn refuse_period(expr: &Expr) -> Result<(), SyntaxError> {
    match expr {
        Expr::Name { .. } | Expr::Names { .. } | Expr::Function { .. } => Ok(()),
        Expr::At {
            when: When::In(_),
            column,
            ..
        } => {
            let message = "a function looks at periods itself: write the period after its `)`";
            Err(SyntaxError::new(*column, message))
        }
        Expr::At { inner, .. } => refuse_period(inner),
        Expr::And(list) | Expr::Or(list) | Expr::Xor(list) => {
            list.iter().try_for_each(refuse_period)
        }
        Expr::Diff(a, b) => {
            refuse_period(a)?;
            refuse_period(b)
        }
    }
}

/// Checks that parentheses are not nested too deeply. `column` is that of the last one.
pub(super) fn check_depth(depth: usize, column: usize) -> Result<(), SyntaxError> {
    if depth <= MAX_DEPTH {
        return Ok(());
    }
    let message = format!("parentheses nest deeper than {MAX_DEPTH}");
    Err(SyntaxError::new(column, message))
}

/// Returns how many differences are nested in each other's left sides.
pub(super) fn nested_diffs(mut expr: &Expr) -> usize {
    let mut found = 0;
    while let Expr::Diff(a, _) = expr {
        expr = a;
        found += 1;
    }
    found
}

/// Returns the only element of a list, or combines several elements.
pub(super) fn one_or(mut list: Vec<Expr>, make: fn(Vec<Expr>) -> Expr) -> Expr {
    if list.len() == 1 {
        list.remove(0)
    } else {
        make(list)
    }
}
