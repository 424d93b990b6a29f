//! Errors of the system in words a user can act on.

use std::io::{Error, ErrorKind};

/// What the system says, without its numbers.
#[must_use]
pub fn io(error: &Error) -> String {
    let words = match error.kind() {
        ErrorKind::PermissionDenied => "permission denied",
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only",
        ErrorKind::StorageFull => "the disk is full",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => "it is not a folder",
        ErrorKind::ConnectionRefused => "connection refused",
        ErrorKind::ConnectionReset => "the connection was cut",
        ErrorKind::TimedOut => "no answer in time",
        _ => {
            let text = error.to_string();
            let end = text.find(" (os error").unwrap_or(text.len());
            return text[..end].to_lowercase();
        }
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::io;
    use std::io::{Error, ErrorKind};

    #[test]
    fn numbers_of_the_system_are_left_out() {
        assert_eq!(io(&Error::from_raw_os_error(111)), "connection refused");
        assert_eq!(io(&Error::from_raw_os_error(36)), "file name too long");
        assert_eq!(
            io(&Error::from(ErrorKind::UnexpectedEof)),
            "unexpected end of file"
        );
    }
}
