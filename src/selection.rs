//! Which of the roles a process is to run.

/// Which roles to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Event log → dispatch queue.
    pub consumer: bool,
    /// Dispatch queue → POST.
    pub dispatcher: bool,
    /// Retry queue → dispatch queue.
    pub retry_manager: bool,
    /// Attempts topic → history.
    pub recorder: bool,
    /// REST.
    pub api: bool,
}

impl Selection {
    /// All of them.
    pub const ALL: Self = Self {
        consumer: true,
        dispatcher: true,
        retry_manager: true,
        recorder: true,
        api: true,
    };
    /// None of them.
    pub const NONE: Self = Self {
        consumer: false,
        dispatcher: false,
        retry_manager: false,
        recorder: false,
        api: false,
    };
}
