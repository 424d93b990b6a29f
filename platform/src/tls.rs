//! TLS towards a target: whom to trust, and who we are.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use schemas::target::{SecretText, TlsOptions};
use std::sync::Arc;

/// The most bytes of certificates or of a key, in PEM.
pub const MAX_PEM: usize = 64 * 1024;

/// What of a target's TLS cannot be used. Shows nothing of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The authorities.
    #[error("must be certificates of authorities in PEM (-----BEGIN CERTIFICATE-----), 64 KiB at most")]
    Ca,
    /// The certificate to show.
    #[error("must be a certificate in PEM, and those between it and its authority, 64 KiB at most")]
    ClientCertificate,
    /// Its key.
    #[error("must be the private key of clientCertificate in PEM, without a password, 64 KiB at most")]
    ClientKey,
}

/// TLS as a target wants it; `machine` are the authorities of those that name none. Certificates are always
/// verified.
///
/// # Errors
/// Says which part cannot be used.
pub fn client_config(
    options: &TlsOptions,
    client_key: Option<&SecretText>,
    machine: Arc<RootCertStore>,
) -> Result<ClientConfig, TlsError> {
    let roots = match &options.ca {
        None => machine,
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(pem).ok_or(TlsError::Ca)? {
                roots.add(certificate).map_err(|_| TlsError::Ca)?;
            }
            Arc::new(roots)
        }
    };
    let builder = ClientConfig::builder().with_root_certificates(roots);
    match (&options.client_certificate, client_key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(_), None) => Err(TlsError::ClientKey),
        (None, Some(_)) => Err(TlsError::ClientCertificate),
        (Some(pem), Some(key)) => {
            let chain = certificates(pem).ok_or(TlsError::ClientCertificate)?;
            let key = Some(key.reveal())
                .filter(|pem| pem.len() <= MAX_PEM)
                .ok_or(TlsError::ClientKey)?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| TlsError::ClientKey)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|_| TlsError::ClientKey)
        }
    }
}

/// The certificates of a PEM text, at least one.
fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    if pem.len() > MAX_PEM {
        return None;
    }
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    all.ok().filter(|all| !all.is_empty())
}
