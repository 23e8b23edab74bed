"""Finds out whether a port speaks TLS: for an http address at which connections are closed without an answer."""

import socket
import ssl

PROBE_S = 5.0
"""Seconds that a connection, and each step of its handshake, may take."""


def speaks_tls(host: str, port: int) -> bool:
    """Return True if a server answers a TLS handshake. Blocks, for seconds. Sends no key and no request; trusts nobody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), PROBE_S) as plain, context.wrap_socket(plain, server_hostname=host):
            return True
    except (OSError, ValueError):
        # it does not, or it wants more than a handshake; both are no proof
        return False
