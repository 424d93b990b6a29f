//! What a target's own headers may be.

/// The longest name of a target's header, in characters.
pub const MAX_HEADER_NAME: usize = 128;

/// The longest value of a target's header, in characters.
pub const MAX_HEADER_VALUE: usize = 4096;

/// Checks a header of a target's own: one line of visible ASCII under a name that is neither ours
/// nor the connection's.
///
/// # Errors
/// Names the header and says what would be right. Never shows the value, which may be a secret.
pub fn check_header(name: &str, value: &str) -> Result<(), String> {
    /// What the connection needs (RFC 9110, 7.6.1), and what hookwright sets itself.
    const RESERVED: [&str; 13] = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "keep-alive",
        "forwarded",
        "content-type",
        "user-agent",
        "traceparent",
    ];
    const RESERVED_PREFIXES: [&str; 4] = ["proxy-", "webhook-", "x-amz-", "x-forwarded-"];

    if name.len() > MAX_HEADER_NAME || http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        let shown: String = name.chars().take(MAX_HEADER_NAME).collect();
        return Err(format!(
            "{shown:?} is not a header name: 1 to {MAX_HEADER_NAME} letters, digits and !#$%&'*+-.^_`|~"
        ));
    }
    let lower = name.to_ascii_lowercase();
    if RESERVED.contains(&lower.as_str()) || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
    {
        return Err(format!(
            "the header {lower} cannot be set: it is set for each request"
        ));
    }
    let is_visible = value.bytes().all(|b| matches!(b, 0x20..=0x7E));
    if value.len() > MAX_HEADER_VALUE || !is_visible || value.trim() != value {
        return Err(format!(
            "the value of the header {lower} must be at most {MAX_HEADER_VALUE} visible ASCII characters, \
             with no space at either end"
        ));
    }
    Ok(())
}
