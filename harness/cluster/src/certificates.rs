//! Certificates, where servers insist on them: one authority for the whole cluster, made anew with it.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// Signs certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
}

/// Where a certificate and its key are.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Authority").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Authority {
    /// Draws a key, and writes what signs itself with it to `ca.crt` in a directory.
    ///
    /// # Errors
    /// When there is no randomness, or the directory cannot be written to.
    pub fn in_directory(directory: &Path) -> Result<Self, String> {
        let mut params = params("penstock-authority", &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(|error| format!("no key: {error}"))?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(|error| format!("no authority: {error}"))?;
        fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let authority = Self { issuer, directory: directory.to_owned() };
        write(&directory.join("ca.crt"), &authority.pem())?;
        Ok(authority)
    }

    /// Where the certificates are, its own being `ca.crt`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for a server of these names and addresses, which is one for a client of this common name as well; in `NAME.crt` and
    /// `NAME.key`.
    ///
    /// # Errors
    /// As [`Authority::in_directory`], and for what is no name.
    pub fn issue(&self, name: &str, hosts: &[&str]) -> Result<Certificate, String> {
        let said = |error: rcgen::Error| format!("no certificate for {name}: {error}");
        let mut params = params(name, hosts)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let own = KeyPair::generate().map_err(said)?;
        let signed = params.signed_by(&own, &self.issuer).map_err(said)?;
        let path = |kind: &str| self.directory.join(format!("{name}.{kind}"));
        let issued = Certificate { certificate: path("crt"), key: path("key") };
        write(&issued.certificate, &signed.pem())?;
        write(&issued.key, &own.serialize_pem())?;
        Ok(issued)
    }
}

fn params(name: &str, hosts: &[&str]) -> Result<CertificateParams, String> {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).map_err(|error| format!("{name}: {error}"))?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
