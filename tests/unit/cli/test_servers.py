"""What the commands that serve others hand on of what a person has said about money and files."""

from pathlib import Path
from typing import Any

import pytest
from filling import done, filled

from runner.cli import agents, serving
from runner.errors import UsageError


class Asked(Exception):  # noqa: N818 - no error: ends a command that would serve
    """What a server was made of."""


def asked(*given: Any) -> Any:
    raise Asked(*given)


@pytest.mark.parametrize(("dollars", "capped"), [(None, False), (2.5, True)])
def test_an_agent_may_spend_only_what_a_person_has_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dollars: float | None, capped: bool
) -> None:
    monkeypatch.setattr(agents, "server", asked)
    with pytest.raises(Asked) as found:
        agents.serve(str(tmp_path / "r.db"), root=str(tmp_path), max_cost=dollars, trusted=(), port=0)
    (tools,) = found.value.args
    assert (tools.human.capped, tools.cap.state().cap, tools.root.path) == (capped, dollars, tmp_path.resolve())


def test_the_store_of_an_agent_is_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "server", asked)
    (tmp_path / "in").mkdir()
    with pytest.raises(UsageError, match=r"r\.db is outside of --root"):
        agents.serve(str(tmp_path / "r.db"), root=str(tmp_path / "in"), max_cost=1.0, trusted=(), port=0)


@pytest.mark.parametrize("dollars", [None, 2.5])
def test_prompts_of_the_page_may_cost_what_a_person_has_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dollars: float | None
) -> None:
    store = filled(tmp_path / "r.db", done("a", 1))

    def serve(_: Path, listening: Any, *__: Any, asks: Any) -> None:
        listening.end.close()
        asked(asks.asker)

    monkeypatch.setattr(serving.server, "serve", serve)
    # the process of the tests keeps its own rank
    monkeypatch.setattr(serving.server, "lower", lambda: None)
    with pytest.raises(Asked) as found:
        serving.serve(None, str(store), 0, "127.0.0.1", (None, dollars), as_json=False)
    (asker,) = found.value.args
    assert (asker._most, asker.spent) == (dollars, None if dollars is None else 0)
