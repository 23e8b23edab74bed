"""``python -m tests.edits``: the long form of the edit harness. See ``docs/reference/durability.md``."""

import argparse
import sys
import tempfile
from pathlib import Path

# as pytest does for the tests (pythonpath in pyproject.toml): their helpers are top-level modules
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from desk import Asked
from raw_server import RawServer, in_thread

from edits.walk import KINDS, STEPS, Walk


def main() -> int:
    """Walk, and print what each walk that broke a rule says; 1 if there is one."""
    parser = argparse.ArgumentParser(prog="python -m tests.edits", description="Edit a file between sessions, and judge.")
    parser.add_argument("--walks", type=int, default=40, help="files that are edited (40)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"sessions of each ({STEPS})")
    parser.add_argument("--first", type=int, default=100, help="seed of the first walk; the others count on from it (100)")
    parser.add_argument("--input", choices=tuple(KINDS), default="jsonl", help="the format of the rows (jsonl)")
    given = parser.parse_args()
    broken = 0
    asked = Asked()
    with in_thread(RawServer(asked)) as server:
        for seed in range(given.first, given.first + given.walks):
            with tempfile.TemporaryDirectory(prefix="runner-edits-") as folder:
                try:
                    Walk(Path(folder), given.input, seed).go(server, asked, given.steps)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is told with its seed
                    broken += 1
                    print(f"seed {seed}: {type(error).__name__}: {error}", flush=True)
    print(f"{given.walks} walks of {given.steps} sessions over {given.input}; {asked.total()} requests; {broken} broken")
    return int(broken > 0)


sys.exit(main())
