"""The programs of docs/guides/async.md run as they are printed."""

import re
import sys
from pathlib import Path

from processes import Started, assert_clean, environment

GUIDE = Path(__file__).parents[2] / "docs/guides/async.md"
EACH = "import sys\nfor program in sys.argv[1:]:\n    exec(program, {'__name__': '__main__'})\n    print('-- end --')"


def test_each_program_runs(tmp_path: Path) -> None:
    programs = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    with Started([sys.executable, "-c", EACH, *programs], cwd=tmp_path, env=environment()) as process:
        ended = process.ended()
    assert ended.code == 0, ended.err
    assert_clean(ended)
    run, stream, events, transforms, values, session, blocking = ended.out.split("-- end --\n")[:-1]
    assert run == "2 done, 0 failed\n"
    assert "7 done [simulated answer]" in stream
    assert events.count("attempt 1]") == 2
    assert "characters so far" in transforms
    assert "[simulated answer]" in values.splitlines()[-1]
    assert "50 answered" in session
    # the answer of the program before
    assert session.startswith(blocking.rstrip("\n"))
