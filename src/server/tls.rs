//! TLS from two PEM files, read again on request; what fails to load leaves the old one in use.

use anyhow::Context;
use parking_lot::RwLock;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The certificate in use; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

impl Tls {
    /// Reads both files.
    pub(super) fn load(certificate: PathBuf, key: PathBuf) -> anyhow::Result<Self> {
        let current = Arc::new(RwLock::new(read(&certificate, &key)?));
        Ok(Self { certificate, key, current })
    }

    /// Reads both files again; open connections keep what they began with.
    pub(super) fn reload(&self) -> anyhow::Result<()> {
        let fresh = read(&self.certificate, &self.key)?;
        *self.current.write() = fresh;
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.read()))
    }
}

fn read(certificate: &PathBuf, key: &PathBuf) -> anyhow::Result<Arc<ServerConfig>> {
    let chain =
        CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("--tls-cert: can't read certificates from {}", certificate.display()))?;
    anyhow::ensure!(!chain.is_empty(), "--tls-cert: {} holds no certificate", certificate.display());
    let key = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("--tls-key: can't read a private key from {}", key.display()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .context("--tls-cert and --tls-key do not fit together")?;
    // Browsers open WebSockets on a connection of their own, for which they offer http/1.1 alone.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
