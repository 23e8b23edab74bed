"""Where the time went: the ledger of all sessions of a run."""

from runner.exports.report import words
from runner.exports.report.blocks import Block, Cell, Part, Share, Table, Tone, Whole, Words
from runner.time_ledger import NAMES, PARTS, TimeLedger

_TOLD: dict[str, tuple[Tone, str]] = {
    "answering_s": ("done", "the server worked on requests"),
    "limits_s": ("refused", "limits per minute, pauses that the server asked for, a budget"),
    "retry_wait_s": ("two", "rows waited for their next attempt"),
    "server_queue_s": ("four", "the first token took longer than at best"),
    "outage_s": ("failed", "the server did not respond"),
    "runner_s": ("one", "reading, sending, saving"),
    "idle_s": ("left", "no row was left to send, or nobody took the answers"),
}


def ledger(time: TimeLedger | None, advice: str | None, brief: str | None = None) -> list[Block]:
    """Return the ledger as a bar and a table.

    advice: what would make the run faster, in a sentence. brief: why it is not shown, in a sentence; None: it is.
    """
    if time is None or not time.total_s:
        return [Words("No session of this run has noted where its time went.")]
    if brief is not None:
        return [Words(brief)]
    parts = [(NAMES[name], *_TOLD[name], getattr(time, name)) for name in PARTS]
    bar = Whole(
        words=", ".join(f"{name} {words.percent(seconds, time.total_s)}" for name, _, _, seconds in parts),
        parts=[
            Part(name, words.percent(seconds, time.total_s), seconds / time.total_s, tone)
            for name, tone, _, seconds in parts
            if seconds
        ],
    )
    rows: list[list[Cell]] = [
        [name, Share(seconds / time.total_s, words.percent(seconds, time.total_s), tone), words.seconds(seconds), what]
        for name, tone, what, seconds in parts
    ]
    table = Table(
        caption=f"{words.seconds(time.total_s)} of slots in {words.seconds(time.elapsed_s)} by the clock",
        head=["what a slot did", "share", "time of slots", "that is"],
        rows=rows,
        numeric=(2,),
        texts=(3,),
    )
    return [*([Words(words.sentence(advice), strong=True)] if advice else []), bar, table]
