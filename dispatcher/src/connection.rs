//! A connection to a permitted address, counted: pools are bounded over all targets together.

use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::net::TcpStream;

/// How many connections are open, and how many may be kept.
#[derive(Clone)]
pub struct Connections {
    open: Arc<AtomicUsize>,
    kept: usize,
}

impl Connections {
    /// Keeps `kept` of them after their request at most, for the next one. The others are closed.
    #[must_use]
    pub fn new(kept: usize) -> Self {
        Self {
            open: Arc::default(),
            kept,
        }
    }

    /// How many are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a connection until it is dropped.
    #[must_use]
    pub fn hold(&self, stream: TcpStream) -> Guarded {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        Guarded {
            stream: TokioIo::new(stream),
            once: before >= self.kept,
            _counted: Counted(self.open.clone()),
        }
    }
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection to a permitted address.
pub struct Guarded {
    stream: TokioIo<TcpStream>,
    /// For one request only: as many are open as may be kept.
    once: bool,
    _counted: Counted,
}

impl Connection for Guarded {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.once {
            connected.poison();
        }
        connected
    }
}

impl hyper::rt::Read for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}
