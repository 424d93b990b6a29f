//! Where a key was set, for error messages.

use std::path::Path;

/// The environment variable that sets `key`.
fn variable(key: &str) -> String {
    format!("HOOKWRIGHT_{}", key.to_uppercase().replace('.', "__"))
}

/// Where `key` was set: an environment variable, or a line of the file.
#[must_use]
pub fn place(key: &str, file: Option<&Path>) -> Option<String> {
    let variable = variable(key);
    if std::env::var_os(&variable).is_some() {
        return Some(variable);
    }
    let file = file?;
    let line = line_of(key, &std::fs::read_to_string(file).ok()?)?;
    Some(format!("{} line {line}", file.display()))
}

/// The line, from 1, on which TOML sets `key`. Knows `[section]` headers and plain keys, which is
/// all that our keys need.
fn line_of(key: &str, text: &str) -> Option<usize> {
    let mut section = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            section = format!("{}.", header.trim_matches('[').trim());
            if key == section.trim_end_matches('.') {
                return Some(number + 1);
            }
        } else if let Some((name, _)) = line.split_once('=') {
            let full = format!("{section}{}", name.trim().trim_matches('"'));
            // A key inside an inline table or array is on the line of that table.
            if key == full || key.starts_with(&format!("{full}.")) {
                return Some(number + 1);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_on_their_line() {
        let text = "data = \"x\"\n\n[delivery]\n# timeout = \"1s\"\ntimeout = \"15\"\n[kafka]\nproperties = { a = 1 }\n";
        assert_eq!(line_of("data", text), Some(1));
        assert_eq!(line_of("delivery.timeout", text), Some(5));
        assert_eq!(line_of("kafka.properties.a", text), Some(7));
        assert_eq!(line_of("kafka", text), Some(6));
        assert_eq!(line_of("retry.first", text), None);
    }
}
