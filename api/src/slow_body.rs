//! A request's body that must come in time: slow senders are told so, and hold nothing any more.

use crate::connections::time_of;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// A body came too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{received} bytes came in {took:?}")]
pub struct TooSlow {
    /// How many bytes had come.
    pub received: u64,
    /// In how long.
    pub took: Duration,
}

/// A body, from the moment somebody reads it.
pub struct SlowBody {
    sent: Incoming,
    /// What any body may take.
    patience: Duration,
    received: u64,
    begun: Option<Instant>,
    /// Set where we had to wait: most bodies are there at once.
    timer: Option<Pin<Box<Sleep>>>,
}

impl SlowBody {
    /// A body that may take `patience`, and a second more for each 16 KiB of it.
    pub fn new(sent: Incoming, patience: Duration) -> Self {
        Self {
            sent,
            patience,
            received: 0,
            begun: None,
            timer: None,
        }
    }
}

impl Body for SlowBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let body = &mut *self;
        let begun = *body.begun.get_or_insert_with(Instant::now);
        if let Poll::Ready(frame) = Pin::new(&mut body.sent).poll_frame(context) {
            if let Some(Ok(frame)) = &frame {
                body.received += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let end = begun + body.patience + time_of(body.received);
        let timer = body
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        if timer.deadline() != end {
            timer.as_mut().reset(end);
        }
        ready!(timer.as_mut().poll(context));
        let too_slow = TooSlow {
            received: body.received,
            took: begun.elapsed(),
        };
        Poll::Ready(Some(Err(too_slow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.sent.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.sent.size_hint()
    }
}
