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
    # not SSLContext.wrap_socket: it leaves its socket open if the peer has reset the connection
    received, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        handshake = context.wrap_bio(received, to_send, server_hostname=host)
        with socket.create_connection((host, port), PROBE_S) as connection:
            while not _is_done(handshake):
                connection.sendall(to_send.read())
                if not (data := connection.recv(1 << 16)):
                    return False
                received.write(data)
        return True
    except (OSError, ValueError):
        # it does not, or it wants more than a handshake; both are no proof
        return False


def _is_done(handshake: ssl.SSLObject) -> bool:
    """Go on with a handshake. Return False if it needs more from the peer. Raises ssl.SSLError, an OSError, if it fails."""
    try:
        handshake.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
