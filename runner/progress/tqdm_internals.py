"""Everything of tqdm that is used below its documented surface, and nothing else. Decision 0010 says how to leave it.

``tests/unit/progress/test_tqdm_internals.py`` fails when a new version changes what is used here.
"""

from tqdm.utils import disp_len

__all__ = ["CHECKED_WITH", "disp_len"]

CHECKED_WITH = "4.70.1"
"""The version of tqdm that every name below was last checked with."""

# disp_len    the columns that a text takes on a terminal, as tqdm measures a bar that it draws; tqdm documents no measure
