"""The process of the page of a run, which ``beside`` starts: it serves until the run is gone."""

import sys
from pathlib import Path

from runner.session.blocking import blocking
from runner.web import serve
from runner.web.beside import inherited


def main(end: int, tie: int, store: str) -> None:
    """Serve a store at a socket that listens, until the run at the other side of the tie is gone. end, tie: file descriptors."""
    found, own = inherited((end, tie))
    serve.lower()
    blocking(lambda: serve.serve(Path(store), found, lambda: serve.gone(own.fileno())))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
