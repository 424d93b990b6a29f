//! A front of something that speaks TCP, which can be cut.

use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// A running front.
pub struct TcpFront {
    address: SocketAddr,
    cut: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl TcpFront {
    /// A front of `behind`, such as `127.0.0.1:5432`.
    pub async fn start(behind: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (cut, is_cut) = watch::channel(false);
        let task = tokio::spawn(serve(listener, behind.to_owned(), is_cut));
        Self { address, cut, task }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Breaks all connections off; new ones are closed as soon as they are made.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.cut.send_replace(false);
    }
}

impl Drop for TcpFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, behind: String, is_cut: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(pass(stream, behind.clone(), is_cut.clone()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn pass(mut near: TcpStream, behind: String, mut is_cut: watch::Receiver<bool>) {
    let through = async {
        if let Ok(mut far) = TcpStream::connect(&behind).await {
            // An error is the end of the connection, for both sides.
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
    };
    tokio::select! {
        biased;
        _ = is_cut.wait_for(|cut| *cut) => {}
        () = through => {}
    }
}
