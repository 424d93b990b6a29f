//! A front of something that speaks TCP, which can be cut or fall silent.

use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

#[derive(Clone, Copy)]
enum State {
    Open,
    Cut,
    Silent,
}

/// A running front.
pub struct TcpFront {
    address: SocketAddr,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

impl TcpFront {
    /// A front of `behind`, such as `127.0.0.1:5432`.
    pub async fn start(behind: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (state, current) = watch::channel(State::Open);
        let task = tokio::spawn(serve(listener, behind.to_owned(), current));
        Self { address, state, task }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Breaks all connections off; new ones are closed as soon as they are made.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Passes nothing on and closes nothing, as a network does that drops packets.
    #[allow(dead_code, reason = "not all who share this file need it")]
    pub fn silence(&self) {
        self.state.send_replace(State::Silent);
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.state.send_replace(State::Open);
    }
}

impl Drop for TcpFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, behind: String, state: watch::Receiver<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(pass(stream, behind.clone(), state.clone()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn pass(mut near: TcpStream, behind: String, mut state: watch::Receiver<State>) {
    let through = async {
        if let Ok(mut far) = TcpStream::connect(&behind).await {
            // An error is the end of the connection, for both sides.
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
    };
    tokio::pin!(through);
    loop {
        let now = *state.borrow_and_update();
        if matches!(now, State::Cut) {
            return;
        }
        tokio::select! {
            biased;
            changed = state.changed() => if changed.is_err() { return },
            () = &mut through, if matches!(now, State::Open) => return,
        }
    }
}
