"""Certificates for mutual TLS, and a call with one.

`mtls.py issue DIRECTORY URI…` makes a certificate authority, a server's certificate for localhost, and for each URI a client's certificate
that has it as subject alternative name: ca.pem, server.pem, server.key, client-0.pem, client-0.key …
`mtls.py call URL DIRECTORY [N]` sends a chat request with client N's certificate, or without any, and prints the status.
"""

import datetime
import json
import pathlib
import ssl
import sys
import urllib.request

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM


def certificate(name, names, issuer=None, issuer_key=None):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key or key, hashes.SHA256()), key


def write(directory, name, made):
    made_certificate, key = made
    (directory / f"{name}.pem").write_bytes(made_certificate.public_bytes(PEM))
    form = serialization.PrivateFormat.PKCS8
    (directory / f"{name}.key").write_bytes(key.private_bytes(PEM, form, serialization.NoEncryption()))


def issue(directory, uris):
    directory.mkdir(parents=True, exist_ok=True)
    ca = certificate("ca", [])
    write(directory, "ca", ca)
    write(directory, "server", certificate("localhost", [x509.DNSName("localhost")], ca[0].subject, ca[1]))
    for number, uri in enumerate(uris):
        names = [x509.UniformResourceIdentifier(uri)]
        write(directory, f"client-{number}", certificate("client", names, ca[0].subject, ca[1]))


def call(url, directory, number=None):
    context = ssl.create_default_context(cafile=directory / "ca.pem")
    if number is not None:
        context.load_cert_chain(directory / f"client-{number}.pem", directory / f"client-{number}.key")
    body = {"model": "chat", "max_tokens": 3, "messages": [{"role": "user", "content": "Hi"}]}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        print(opener.open(request, timeout=30).status)
    except OSError as error:
        print(f"refused: {error}")


match sys.argv[1:]:
    case ["issue", directory, *uris]:
        issue(pathlib.Path(directory), uris)
    case ["call", url, directory, *number]:
        call(url, pathlib.Path(directory), *number)
