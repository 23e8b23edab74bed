"""What the progress bar uses of tqdm below its documented surface is still there and still does the same."""

import pytest
from internals import Internals
from tqdm import tqdm

from runner.progress import tqdm_internals
from runner.progress.tqdm_internals import disp_len

TQDM = Internals(tqdm_internals, "tqdm")


@pytest.mark.parametrize(("text", "columns"), [("", 0), ("ab", 2), ("漢字", 4), ("한", 2), ("é", 1), ("\x1b[31mab\x1b[0m", 2)])
def test_a_text_is_measured_in_columns(text: str, columns: int) -> None:
    with TQDM.uses("disp_len returns the columns of a text: wide characters take two, colours none"):
        assert disp_len(text) == columns


@pytest.mark.parametrize("words", ["plain", "漢字漢字"])
def test_the_bar_is_drawn_by_the_same_measure(words: str) -> None:
    with TQDM.uses("disp_len is the measure by which tqdm draws: a bar fills exactly the columns that it is given"):
        drawn = tqdm.format_meter(n=5, total=10, elapsed=1.0, ncols=50, bar_format="{bar}|{postfix}", postfix=words)
        assert words in drawn
        assert disp_len(drawn) == 50
