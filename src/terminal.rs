//! What a person reads: answers on stdout, complaints on stderr, colours only on a terminal.

use std::io::{IsTerminal, Write};

/// Writes a line to stdout. Nobody may be reading.
pub fn say(line: &str) {
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

/// Writes a line to stderr.
pub fn complain(line: &str) {
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// The colours outcomes have.
#[derive(Clone, Copy)]
pub enum Colour {
    /// It went well.
    Green,
    /// It did not, yet.
    Yellow,
    /// It did not.
    Red,
}

/// Text in a colour, on a terminal.
pub fn coloured(text: &str, colour: Colour) -> String {
    if !std::io::stdout().is_terminal() {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Green => 32,
        Colour::Yellow => 33,
        Colour::Red => 31,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}
