"""The token by which a worker and a driver know each other, and the certificate that a driver makes for one session.

A token holds a secret and the fingerprint of the certificate. A worker trusts the driver whose certificate has that fingerprint,
whoever has signed it, and whatever the clocks say. Then both prove that they know the secret, by a number that the other drew.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from runner.errors import UsageError

VARIABLE = "RUNNER_WORKER_TOKEN"
"""Holds the token of a worker."""
_KIND = "rw1"
_BYTES = 32


class Token(NamedTuple):
    """What a worker needs to join. text: one line of printable ASCII without spaces."""

    secret: bytes
    fingerprint: bytes

    @property
    def text(self) -> str:
        """The token as it is handed over."""
        return ".".join((_KIND, *(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in self)))

    def __repr__(self) -> str:
        return "Token()"

    def proof(self, who: str, mine: bytes, other: bytes) -> bytes:
        """Return what shows that a side knows the secret. who: "worker" or "driver". mine, other: what the two sides drew."""
        return hmac.new(self.secret, who.encode() + mine + other, hashlib.sha256).digest()


def read(text: str, whose: str = "the token of the worker", variable: str = VARIABLE) -> Token:
    """Read a token. whose, variable: for messages. Raises UsageError, which does not quote it."""
    kind, _, parts = text.strip().partition(".")
    try:
        secret, fingerprint = (base64.b64decode(f"{part}=", altchars=b"-_", validate=True) for part in parts.split("."))
    except (ValueError, binascii.Error):
        secret = fingerprint = b""
    if kind != _KIND or len(secret) != _BYTES or len(fingerprint) != _BYTES:
        raise UsageError(f"{whose} is none; {variable} or the file must hold the line that the run has made")
    return Token(secret, fingerprint)


def drawn() -> bytes:
    """Return a number that nobody can guess."""
    return secrets.token_bytes(_BYTES)


def fingerprint_of(certificate: bytes) -> bytes:
    """Return the fingerprint of a certificate. certificate: in DER."""
    return hashlib.sha256(certificate).digest()


def for_driver() -> tuple[Token, ssl.SSLContext]:
    """Make the token and the certificate of a session. Raises UsageError without the package cryptography."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise UsageError(
            "to let others join, a run needs the package cryptography: pip install 'prompt-runner[workers]'; who joins needs none"
        ) from error
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "runner")])
    # nobody looks at the dates, which a clock that is wrong would break
    begin = datetime.now(UTC) - timedelta(days=1)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), begin, begin + timedelta(days=3650)
    )
    certificate = builder.sign(key, hashes.SHA256())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    both = certificate.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # the library reads files alone; only this user can read this one, and it is gone at once
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(both)
        context.load_cert_chain(file.name)
    return Token(drawn(), fingerprint_of(certificate.public_bytes(serialization.Encoding.DER))), context


def for_worker() -> ssl.SSLContext:
    """Return how a worker speaks TLS: the certificate is checked by its fingerprint, and by nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
