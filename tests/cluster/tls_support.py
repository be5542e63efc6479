"""A certificate that nobody has signed, as one makes it with openssl."""

import ssl
import subprocess


def made_certificate(folder):
    """Make a certificate for the loopback address; return its path and its key's."""
    certificate, key = folder / "talk.pem", folder / "talk.key"
    files = ("-out", str(certificate), "-keyout", str(key))
    named = ("-subj", "/CN=talk", "-addext", "subjectAltName=IP:127.0.0.1")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    subprocess.run([*command, *files, *named], check=True, capture_output=True)
    return certificate, key


def trusting(certificate):
    """Return what a client trusts that knows this certificate alone."""
    return ssl.create_default_context(cafile=certificate)
