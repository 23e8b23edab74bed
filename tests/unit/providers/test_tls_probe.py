"""The question whether a port speaks TLS leaves nothing open, whatever the peer does."""

import gc
import select
import socket
import struct
import threading
import warnings

import pytest

from runner.providers.http.tls_probe import speaks_tls

_RESET = struct.pack("ii", 1, 0)


def test_a_peer_that_resets_the_connection_leaves_no_socket_open(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.create_connection

    def connect_and_be_reset(address: tuple[str, int], timeout: float) -> socket.socket:
        connection = connect(address, timeout)
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        accepted.close()
        select.select([connection], [], [], timeout)
        return connection

    monkeypatch.setattr(socket, "create_connection", connect_and_be_reset)
    with socket.create_server(("127.0.0.1", 0)) as listener, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert not speaks_tls("127.0.0.1", listener.getsockname()[1])
        gc.collect()
    assert [str(warning.message) for warning in warned] == []


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x16\x03\x01"])
def test_a_plain_server_speaks_no_tls(says: bytes) -> None:
    def answer() -> None:
        accepted, _ = listener.accept()
        with accepted:
            accepted.recv(1 << 16)
            accepted.sendall(says)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=answer)
        server.start()
        assert not speaks_tls("127.0.0.1", listener.getsockname()[1])
        server.join()
