"""``python -m tests.kills``: the long form of the kill harness. See ``docs/reference/durability.md``."""

import sys
from pathlib import Path

# as pytest does for the tests (pythonpath in pyproject.toml): their helpers are top-level modules
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from kills.command import main

sys.exit(main())
