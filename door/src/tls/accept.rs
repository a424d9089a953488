//! The handshake.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::{Chain, Tls};

/// How long a handshake may take.
pub const HANDSHAKE: Duration = Duration::from_secs(10);

/// A connection over TLS.
pub type TlsStream<S> = tokio_rustls::server::TlsStream<S>;

/// Why there is no connection over TLS.
#[derive(Debug, thiserror::Error)]
pub enum NotAccepted {
    /// The handshake took too long.
    #[error("the handshake took too long")]
    Late,
    /// What was said is no TLS, or not what is taken here.
    #[error("{0}")]
    Refused(rustls::Error),
    /// The connection broke.
    #[error("{0}")]
    Broken(io::Error),
}

impl Tls {
    /// Make a connection over TLS of `stream`, with the client's certificate
    /// chain where it showed one: good then.
    ///
    /// Errors: [`NotAccepted`]; the stream is closed.
    pub async fn accept<S>(&self, stream: S) -> Result<(TlsStream<S>, Option<Chain>), NotAccepted>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.current().config.clone());
        let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream))
            .await
            .map_err(|_| NotAccepted::Late)?
            .map_err(NotAccepted::of)?;
        let (_, session) = stream.get_ref();
        let chain = session.peer_certificates().map(Chain::from);
        Ok((stream, chain.filter(|chain| !chain.is_empty())))
    }
}

impl NotAccepted {
    fn of(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        match inner.cloned() {
            Some(refused) => Self::Refused(refused),
            None => Self::Broken(error),
        }
    }
}
