//! Connections: a bounded number, and none that idles for ever.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Connections at once. Those beyond wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1024;
/// Longer than any request may take and than a watch stays silent, so it only ends connections nobody uses and
/// clients that stopped reading.
const IDLE_MAX: Duration = Duration::from_secs(40);

/// After the last answer, what a client still sends is read for so long, and thrown away: closing over unread bytes resets
/// the connection, and the client may lose the answer that says why. As much as a body that is too large gets before.
const LINGER_BYTES_MAX: usize = 64 << 20;
const LINGER_TIME_MAX: Duration = Duration::from_secs(5);
/// A client that is silent for so long has nothing more to send.
const LINGER_SILENCE_MAX: Duration = Duration::from_millis(100);

pub(super) struct Connections {
    listener: TcpListener,
    room: Arc<Semaphore>,
    idle_max: Duration,
}

impl Connections {
    pub fn new(listener: TcpListener) -> Self {
        Self::within(listener, CONNECTIONS_MAX, IDLE_MAX)
    }

    fn within(listener: TcpListener, connections_max: usize, idle_max: Duration) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(connections_max)), idle_max }
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed; without a permit the connection is simply not counted.
        let room = Arc::clone(&self.room).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        // Answers are small and written at once: waiting for more to send only delays them.
        let _ = stream.set_nodelay(true);
        (Connection { stream, idle: Idle::new(self.idle_max), linger: None, _room: room }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

pub(super) struct Connection {
    stream: TcpStream,
    idle: Idle,
    linger: Option<Linger>,
    _room: Option<OwnedSemaphorePermit>,
}

/// Ends what makes no progress for long. Progress only notes the time: the timer is moved when it rings.
struct Idle {
    max: Duration,
    last: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Idle {
    fn new(max: Duration) -> Self {
        Self { max, last: Instant::now(), timer: Box::pin(tokio::time::sleep(max)) }
    }

    fn on_poll<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.last = Instant::now();
            return poll;
        }
        ready!(self.timer.as_mut().poll(cx));
        // It rang for the progress it knew of; a time that is already past rings at once.
        self.timer.as_mut().reset(self.last + self.max);
        ready!(self.timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// The end of a connection, after the last answer.
struct Linger {
    left: usize,
    until: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Linger {
    fn new() -> Self {
        let timer = Box::pin(tokio::time::sleep(LINGER_SILENCE_MAX));
        Self { left: LINGER_BYTES_MAX, until: Instant::now() + LINGER_TIME_MAX, timer }
    }

    /// Ready when the client has ended too, is silent, or sends for ever.
    fn poll(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 16 << 10];
        loop {
            let mut buf = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *stream).poll_read(cx, &mut buf) {
                Poll::Pending => return self.timer.as_mut().poll(cx),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => {}
            }
            let now = Instant::now();
            self.left = self.left.saturating_sub(buf.filled().len());
            if buf.filled().is_empty() || self.left == 0 || now >= self.until {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(now + LINGER_SILENCE_MAX);
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.idle.on_poll(cx, poll)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.idle.on_poll(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.idle.on_poll(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        let linger = this.linger.get_or_insert_with(Linger::new);
        ready!(linger.poll(&mut this.stream, cx));
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn connections(connections_max: usize, idle_max: Duration) -> (Connections, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Connections::within(listener, connections_max, idle_max), address)
    }

    #[tokio::test]
    async fn a_connection_that_says_nothing_is_ended() {
        let (mut connections, address) = connections(1, Duration::from_millis(20)).await;
        let _client = TcpStream::connect(address).await.unwrap();
        let (mut connection, _) = connections.accept().await;
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_still_sends_when_its_connection_ends_hears_the_answer() {
        let (mut connections, address) = connections(2, IDLE_MAX).await;
        let client = tokio::spawn(async move {
            let mut client = TcpStream::connect(address).await.unwrap();
            // More than the buffers of both sides hold.
            client.write_all(&vec![7; 32 << 20]).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.map(|_| answer)
        });
        let (mut connection, _) = connections.accept().await;
        connection.read_u8().await.unwrap();
        connection.write_all(b"no").await.unwrap();
        connection.shutdown().await.unwrap();
        drop(connection);
        assert_eq!(client.await.unwrap().unwrap(), "no");
        // One that says nothing more is not waited for.
        let _silent = TcpStream::connect(address).await.unwrap();
        let (mut connection, _) = connections.accept().await;
        tokio::time::timeout(LINGER_TIME_MAX / 2, connection.shutdown()).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait_for_one_to_end() {
        let (mut connections, address) = connections(1, IDLE_MAX).await;
        let _clients = (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        let first = connections.accept().await;
        assert_eq!(connections.room.available_permits(), 0);
        assert!(futures::FutureExt::now_or_never(connections.accept()).is_none(), "there is no room");
        drop(first);
        connections.accept().await;
    }
}
