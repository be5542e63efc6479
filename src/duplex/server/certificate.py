"""A certificate of one's own: browsers give a microphone only to pages over HTTPS, or from this machine."""

import datetime as dt
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from duplex.atomic import atomic_write_bytes, make_folder
from duplex.extras import require

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["self_signed_certificate", "unnamed_addresses"]

CERTIFICATE, KEY = "certificate.pem", "key.pem"
DAYS = 397
"""What browsers accept at most."""
RENEWAL_DAYS = 30
_EVERYWHERE = {"", "0.0.0.0", "::"}  # noqa: S104 -- no name that a client could ask for


def self_signed_certificate(folder: Path, host: str) -> tuple[Path, Path]:
    """Return the paths of a self-signed certificate and its key, made now or before.

    It is kept, so that whoever has accepted it once is not asked again until it runs out.

    :raises MissingDependencyError: if ``cryptography`` is not installed
    :raises OutputError: if the folder cannot be written
    """
    certificate, key = folder / CERTIFICATE, folder / KEY
    names = sorted({host, "localhost", "127.0.0.1", "::1", socket.gethostname()} - _EVERYWHERE)
    require("serve", "cryptography", purpose="a certificate")
    if key.exists() and certificate.exists() and _good(certificate.read_bytes(), key.read_bytes(), names):
        return certificate, key
    make_folder(folder)
    signed, secret = _made(names)
    atomic_write_bytes(key, secret, mode=0o600)  # nobody else may read it, not even for a moment
    atomic_write_bytes(certificate, signed)
    return certificate, key


def unnamed_addresses(certificate: Path, addresses: Iterable[str]) -> Sequence[str]:
    """Return the IP addresses for which a certificate is not good, of some that servers are reached at by number.

    :raises MissingDependencyError: if ``cryptography`` is not installed
    """
    require("serve", "cryptography", purpose="a certificate")
    from cryptography import x509  # noqa: PLC0415

    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        named = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    except (OSError, ValueError, x509.ExtensionNotFound):
        named = set[str]()
    return [address for address in addresses if address not in named]


def _good(signed: bytes, secret: bytes, names: Sequence[str]) -> bool:
    """Tell whether a certificate is that of a key, for these names, and for some time to come."""
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        found, key = x509.load_pem_x509_certificate(signed), load_pem_private_key(secret, None)
        named = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, x509.ExtensionNotFound):
        return False
    left = found.not_valid_after_utc - dt.datetime.now(dt.UTC)
    return left.days >= RENEWAL_DAYS and set(named) == set(_names(names)) and found.public_key() == key.public_key()


def _made(names: Sequence[str]) -> tuple[bytes, bytes]:
    """Return a new certificate for these names, and its key."""
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "duplex")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName(_names(names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), secret


def _names(names: Sequence[str]) -> "list[x509.GeneralName]":
    from cryptography import x509  # noqa: PLC0415

    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found
