//! The answer of a future that may have one already.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// What a future answers at its first poll, if anything. One that would have to wait is dropped: only for
/// what begins nothing outside by its first poll, such as a look into a cache.
pub fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_is_there_is_given() {
        assert_eq!(at_once(async { 7 }), Some(7));
        assert_eq!(at_once(std::future::pending::<u8>()), None);
    }
}
