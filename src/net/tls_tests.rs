use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::WebPkiClientVerifier;

use super::*;
use crate::config::ClientCertificate;
use crate::net::{ConnectError, Stream, connect, connect_at};

const LIMIT: Duration = Duration::from_secs(5);

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)
}

fn named(variable: &'static str, path: PathBuf) -> NamedFile {
    NamedFile { variable, path }
}

fn trusting(ca: &str) -> TlsFiles {
    TlsFiles { ca: Some(named("KAFKA_SSL_CA_FILE", data(ca))), client: None }
}

fn showing(certificate: &str, key: &str) -> TlsFiles {
    let client = ClientCertificate {
        certificate: named("KAFKA_SSL_CERT_FILE", data(certificate)),
        key: named("KAFKA_SSL_KEY_FILE", data(key)),
    };
    TlsFiles { client: Some(client), ..trusting("ca.pem") }
}

fn host(name: &str, address: SocketAddr) -> HostPort {
    HostPort { host: name.to_owned(), port: address.port() }
}

/// A TLS server for one connection: echoes what it gets until the client is done; returns the SNI, or why not.
async fn server(ask_for_certificate: bool) -> (SocketAddr, JoinHandle<io::Result<Option<String>>>) {
    let chain: Vec<_> = CertificateDer::pem_file_iter(data("server.pem")).unwrap().collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(data("server.key")).unwrap();
    let provider = Arc::new(ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = if ask_for_certificate {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(data("ca.pem")).unwrap()).unwrap();
        builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap(),
        )
    } else {
        builder.with_no_client_auth()
    };
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        let mut stream = acceptor.accept(stream).await?;
        let name = stream.get_ref().1.server_name().map(str::to_owned);
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        stream.write_all(&bytes).await?;
        stream.shutdown().await?;
        Ok(name)
    });
    (address, task)
}

/// Sends, says that it is done, and returns what comes back.
async fn echoed(mut stream: Stream, bytes: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(bytes).await?;
    stream.shutdown().await?;
    let mut back = Vec::new();
    stream.read_to_end(&mut back).await?;
    Ok(back)
}

#[tokio::test]
async fn a_trusted_server_is_talked_to_and_told_the_name() {
    let client = TlsClient::load(&trusting("ca.pem")).unwrap();
    let (address, server) = server(false).await;
    let (stream, reached) = connect(&host("localhost", address), Some(&client), LIMIT).await.unwrap();
    assert_eq!(reached, address);
    assert!(matches!(stream, Stream::Tls(_)));
    // More than one TLS record.
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    assert!(echoed(stream, &bytes).await.unwrap() == bytes);
    assert_eq!(server.await.unwrap().unwrap().as_deref(), Some("localhost"));
}

#[tokio::test]
async fn an_address_can_be_the_name_and_the_address_can_be_fixed() {
    let client = TlsClient::load(&trusting("ca.pem")).unwrap();
    let (address, server) = server(false).await;
    let stream = connect_at(&host("127.0.0.1", address), address, Some(&client), LIMIT).await.unwrap();
    assert_eq!(echoed(stream, b"ping").await.unwrap(), b"ping");
    assert_eq!(server.await.unwrap().unwrap(), None, "no SNI for an address (RFC 6066, section 3)");
}

#[tokio::test]
async fn an_untrusted_server_or_a_wrong_name_is_refused() {
    for (ca, name, cause) in [
        (Some("other-ca.pem"), "localhost", "UnknownIssuer"),
        (None, "localhost", "UnknownIssuer"),
        (Some("ca.pem"), "kafka.example.com", "not valid for name"),
    ] {
        let client = TlsClient::load(&ca.map_or_else(TlsFiles::default, trusting)).unwrap();
        let (address, server) = server(false).await;
        let error = connect_at(&host(name, address), address, Some(&client), LIMIT).await.unwrap_err();
        assert!(matches!(error, ConnectError::Handshake(HandshakeError::Failed { .. })), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("TLS with {name}:{} ({address}) failed: ", address.port())), "{text}");
        assert!(text.contains(cause), "{text}");
        server.await.unwrap().unwrap_err();
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_when_asked_for() {
    let client = TlsClient::load(&showing("client.pem", "client.key")).unwrap();
    let (address, accepted) = server(true).await;
    let (stream, _) = connect(&host("localhost", address), Some(&client), LIMIT).await.unwrap();
    assert_eq!(echoed(stream, b"ping").await.unwrap(), b"ping");
    accepted.await.unwrap().unwrap();

    let client = TlsClient::load(&trusting("ca.pem")).unwrap();
    let (address, refused) = server(true).await;
    // With TLS 1.3 the client is through before the server looks at certificates; it hears of it when it reads.
    let outcome = match connect(&host("localhost", address), Some(&client), LIMIT).await {
        Ok((mut stream, _)) => stream.read_to_end(&mut Vec::new()).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    assert!(outcome.unwrap_err().contains("CertificateRequired"));
    refused.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_server_without_tls_is_named() {
    let client = TlsClient::load(&trusting("ca.pem")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await.unwrap();
        stream
    });
    let error = connect(&host("localhost", address), Some(&client), LIMIT).await.unwrap_err();
    assert!(matches!(error, ConnectError::Handshake(HandshakeError::Failed { .. })), "{error:?}");
    drop(answer.await.unwrap());
}

#[tokio::test]
async fn a_silent_server_costs_no_more_than_the_limit() {
    let client = TlsClient::load(&trusting("ca.pem")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limit = Duration::from_millis(200);
    let error = connect(&host("localhost", address), Some(&client), limit).await.unwrap_err();
    assert!(matches!(error, ConnectError::Handshake(HandshakeError::TimedOut { .. })), "{error:?}");
    assert!(error.to_string().contains("does it speak TLS?"), "{error}");
}

#[tokio::test]
async fn without_tls_the_stream_is_bare() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let echo = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
    });
    let (stream, _) = connect(&host("localhost", address), None, LIMIT).await.unwrap();
    assert!(matches!(stream, Stream::Plain(_)));
    assert_eq!(echoed(stream, b"ping").await.unwrap(), b"ping");
    echo.await.unwrap();
}

#[test]
fn faulty_files_are_named_with_their_variable() {
    let refused = |files: &TlsFiles| TlsClient::load(files).unwrap_err().to_string();
    let ca = |path: PathBuf| TlsFiles { ca: Some(named("KAFKA_SSL_CA_FILE", path)), client: None };

    let text = refused(&ca("/nowhere/ca.pem".into()));
    assert!(text.starts_with("cannot read /nowhere/ca.pem (KAFKA_SSL_CA_FILE) as PEM: "), "{text}");
    assert!(text.contains("No such file"), "{text}");

    let text = refused(&ca(data("client.key")));
    assert!(text.contains("client.key (KAFKA_SSL_CA_FILE) holds no certificate"), "{text}");

    let text = refused(&showing("client.pem", "client.pem"));
    assert!(text.contains("client.pem (KAFKA_SSL_KEY_FILE) holds no private key"), "{text}");

    let text = refused(&showing("client.pem", "server.key"));
    assert!(text.contains("cannot use ") && text.contains("server.key (KAFKA_SSL_KEY_FILE): "), "{text}");

    let text = refused(&showing("client.key", "client.key"));
    assert!(text.contains("client.key (KAFKA_SSL_CERT_FILE) holds no certificate"), "{text}");
}

#[test]
fn a_file_that_is_half_pem_is_refused() {
    let path = std::env::temp_dir().join(format!("sandarb-tls-{}.pem", std::process::id()));
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n").unwrap();
    let files = TlsFiles { ca: Some(named("CLICKHOUSE_CA_FILE", path.clone())), client: None };
    let text = TlsClient::load(&files).unwrap_err().to_string();
    assert!(text.contains("(CLICKHOUSE_CA_FILE) as PEM: "), "{text}");
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let text = TlsClient::load(&files).unwrap_err().to_string();
    assert!(text.starts_with("cannot use ") && text.contains("(CLICKHOUSE_CA_FILE): "), "{text}");
    std::fs::remove_file(&path).unwrap();
}
