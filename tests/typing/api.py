"""The Python API as programs use it. Nothing runs this: mypy must accept it (``make types``, ``tests/unit/test_typing.py``)."""

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import assert_type

import runner


def texts() -> Iterator[str]:
    yield "a"


async def rows() -> AsyncIterator[dict[str, object]]:
    yield {"prompt": "a"}


def sources(table: runner.ArrowStream) -> None:
    assert_type(runner.run("rows.csv"), runner.RunSummary)
    runner.run(Path("rows.csv"), limit=3)
    runner.run([Path("a.csv"), Path("b.csv")])
    runner.run(["a", "b"], model="m")
    runner.run([{"id": 1, "prompt": "a"}], model="m")
    runner.run(texts(), model="m")
    runner.run(rows(), model="m")
    runner.run(table, prompt="Classify: {{ text }}", columns=["text"], where="stars > 3", id_column="id")


def settings() -> None:
    runner.run("rows.csv", temperature=0, max_tokens=100, stop=["\n"], stream=False, durability="normal", concurrency="auto")
    runner.run(
        "rows.csv", deadline="8h", ok_failed="2%", headers={"X-Team": "a"}, extra_body={"top_k": 3}, messages=[{"role": "user"}]
    )
    runner.run("rows.csv", strict=True, trust=True, progress=False, stop=runner.StopHandle())
    kept: runner.JobSettings = {"model": "m", "concurrency": 8}
    runner.run("rows.csv", **kept)
    runner.resume(1, base_url="http://127.0.0.1:1/v1", progress=True)
    runner.retry(attempts=3)
    runner.check("rows.csv", prompt="{{ text }}", stop="x")


def results() -> None:
    found = runner.run("rows.csv").results()
    assert_type(runner.export("a.csv", only="failed", columns=["id", "text"]), int)
    assert_type(runner.report("r.html", run_ids=[1, 2]), list[int])
    assert_type(runner.export(["a.csv", "b.parquet"], format=[None, "parquet"], manifest=True), list[int])
    assert_type(found, runner.Results)
    for result in runner.results(1, db="runner.db"):
        assert_type(result, runner.Result)
        assert_type(result.text, str | None)
        assert_type(result.input_tokens, int | None)
    assert_type(len(found), int)
    listed: Sequence[dict[str, object]] = found.to_list()
    del listed


async def inside_a_loop() -> None:
    assert_type(await runner.arun(["a"], model="m", progress=False), runner.RunSummary)
    assert_type(await runner.aresume(1), runner.RunSummary)
    assert_type(await runner.aretry(attempts=3), runner.RunSummary)
    assert_type(await runner.aestimate(rows(), sample=20, model="m", max_tokens=100), runner.Estimate)
    async for result in runner.stream("rows.csv", model="m", strict=True):
        assert_type(result, runner.Result)
    async with runner.events("rows.csv", on_slow="drop", model="m") as events:
        async for event in events:
            if isinstance(event, runner.Token):
                assert_type(event.text, str)
            elif isinstance(event, runner.RowFinished):
                assert_type(event.result, runner.Result)
    async for _, value in runner.values(runner.events("rows.csv", model="m", fields="a: str")):
        print(value)
    async for row, sentence in runner.sentences(runner.events("rows.csv", model="m")):
        assert_type(row, str | int | float | tuple[str | int | float, int])
        assert_type(sentence, str)
    async with runner.Session(model="m", db="s.db", name="a") as session:
        assert_type(await session.ask("x", id=1), runner.Result)
        await session.ask([{"role": "user", "content": "x"}])
        async for token in session.stream("x"):
            assert_type(token, runner.Token)
    with runner.Session(model="m") as blocking:
        assert_type(blocking.ask("x"), runner.Result)
