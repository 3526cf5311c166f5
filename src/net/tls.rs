//! TLS 1.2 and 1.3 as a client (rustls with ring).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::config::{HostPort, NamedFile, TlsFiles};

/// What it takes to open TLS connections: trusted roots and, where given, a client certificate. Cheap to clone.
#[derive(Clone)]
pub struct TlsClient {
    connector: TlsConnector,
}

impl TlsClient {
    /// Reads the files. Without a CA file the roots are those of the Mozilla programme (webpki-roots), with one they are
    /// exactly those in the file.
    ///
    /// # Errors
    /// Naming the file, the variable that named it, and the cause.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsFileError> {
        let mut roots = RootCertStore::empty();
        match &files.ca {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(file) => {
                for certificate in certificates(file)? {
                    let unusable = |source| TlsFileError::Unusable { file: file.clone(), source };
                    roots.add(certificate).map_err(unusable)?;
                }
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsFileError::Setup { source })?
            .with_root_certificates(roots);
        let config = match &files.client {
            None => builder.with_no_client_auth(),
            Some(client) => {
                let chain = certificates(&client.certificate)?;
                let key = PrivateKeyDer::from_pem_file(&client.key.path).map_err(|source| match source {
                    pem::Error::NoItemsFound => TlsFileError::NoKey { file: client.key.clone() },
                    source => unreadable(&client.key, source),
                })?;
                let unusable = |source| TlsFileError::Unusable { file: client.key.clone(), source };
                builder.with_client_auth_cert(chain, key).map_err(unusable)?
            }
        };
        Ok(Self { connector: TlsConnector::from(Arc::new(config)) })
    }

    /// Speaks TLS over an open connection; the server must prove to be `host.host`.
    pub(super) async fn handshake(
        &self,
        host: &HostPort,
        address: SocketAddr,
        stream: TcpStream,
        deadline: Instant,
    ) -> Result<TlsStream<TcpStream>, HandshakeError> {
        // A zone (`fe80::1%eth0`) is only for the resolver.
        let bare = host.host.split('%').next().unwrap_or(&host.host);
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|source| HandshakeError::Name { host: host.clone(), source })?;
        match timeout_at(deadline, self.connector.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(source)) => Err(HandshakeError::Failed { host: host.clone(), address, source }),
            Err(_) => Err(HandshakeError::TimedOut { host: host.clone(), address }),
        }
    }
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsClient")
    }
}

/// Why the files give no TLS client.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// A file cannot be read as PEM.
    #[error("cannot read {file} as PEM: {source}")]
    Unreadable {
        /// The file.
        file: NamedFile,
        /// Why.
        source: pem::Error,
    },
    /// A file without a certificate.
    #[error("{file} holds no certificate (a PEM block CERTIFICATE)")]
    NoCertificate {
        /// The file.
        file: NamedFile,
    },
    /// A file without a private key.
    #[error("{file} holds no private key (a PEM block PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY, not encrypted)")]
    NoKey {
        /// The file.
        file: NamedFile,
    },
    /// A root that is no certificate, or a key that does not belong to its certificate.
    #[error("cannot use {file}: {source}")]
    Unusable {
        /// The file.
        file: NamedFile,
        /// Why.
        source: rustls::Error,
    },
    /// The TLS library refuses its own settings.
    #[error("cannot set up TLS: {source}")]
    Setup {
        /// Why.
        source: rustls::Error,
    },
}

/// Why TLS did not come about on an open connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The host's name cannot be in a certificate.
    #[error("{host} is no name that TLS could verify: {source}")]
    Name {
        /// The host.
        host: HostPort,
        /// Why.
        source: InvalidDnsNameError,
    },
    /// The two sides did not agree: the server speaks no TLS, its certificate is not trusted, ours is missing.
    #[error("TLS with {host} ({address}) failed: {source}")]
    Failed {
        /// The host.
        host: HostPort,
        /// Its address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The server did not finish in time.
    #[error("TLS with {host} ({address}) is not ready in time; does it speak TLS?")]
    TimedOut {
        /// The host.
        host: HostPort,
        /// Its address.
        address: SocketAddr,
    },
}

fn certificates(file: &NamedFile) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let certificates = CertificateDer::pem_file_iter(&file.path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|source| unreadable(file, source))?;
    if certificates.is_empty() {
        return Err(TlsFileError::NoCertificate { file: file.clone() });
    }
    Ok(certificates)
}

fn unreadable(file: &NamedFile, source: pem::Error) -> TlsFileError {
    TlsFileError::Unreadable { file: file.clone(), source }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
