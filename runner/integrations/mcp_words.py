"""The words of the tools: what each does, when to use it, and whether it costs money. An agent chooses by them."""


def _line(text: str) -> str:
    """Return a text as one line."""
    return " ".join(text.split())


INSTRUCTIONS = _line("""
runner sends the rows of a file to a language model and keeps every answer in a store; no finished row is paid for
twice. The usual way: `estimate` a file (free), `submit` it (costs money), `watch` the run until it has ended, look at
`errors`, `retry` what may work now (costs money), and read `results` or `export` them to a file. A run is a process of
its own: it goes on when this server ends, and `watch`, `status` and `stop` find it again. What all sessions together
may spend is fixed by the person who started this server; `budget` says what is left, and no call can raise it.
""")

WORDS = {
    "estimate": _line("""
        Say what a run of a file would take: rows, tokens, dollars and seconds, each between bounds. Free:
        nothing is sent. Use it before `submit`.
    """),
    "submit": _line("""
        COSTS MONEY. Start a run of a file as a process of its own, or continue the run that there is: rows that
        are answered are not sent again, so the same call is safe to repeat, also after a crash. It may spend
        `max_cost` dollars at most, out of the person's cap. Returns as soon as the run has begun; then use
        `watch`.
    """),
    "watch": _line("""
        Wait for a run. Free. Returns when the run has ended, when it has said something new, or after
        `seconds`, with counts, notes and cost; reports progress meanwhile. Call it again with `seen` while
        `running` is true.
    """),
    "runs": _line("""
        List the newest runs of the store with their counts and settings. Free.
    """),
    "status": _line("""
        Tell all about one run: counts, attempts, tokens, dollars, where the time went, why it stopped. Free.
        `watch` is the cheaper call while it runs.
    """),
    "errors": _line("""
        Tell what went wrong in a run, by cause, with an example, ids, what it cost and what to do. Free. Use it
        before `retry`.
    """),
    "retry": _line("""
        COSTS MONEY. Send rows of a run again that have failed, or those that `classes` or `ids` name, and no
        others. A row keeps its answer until it has a new one. The run must not be running; in a running one,
        use `requeue`.
    """),
    "results": _line("""
        Read finished rows of a run in input order, a page at a time: id, status, text, error. Free. For all of
        a large run, use `export`.
    """),
    "show": _line("""
        Show one row whole: what was asked, every attempt, the answer, its earlier answers. Free.
    """),
    "export": _line("""
        Write the finished rows of a run to a file in the root folder. Free.
    """),
    "budget": _line("""
        Say how many dollars the person allows, what is spent, and what is left. Free.
    """),
    "pause": _line("""
        Send no further requests of a running session; those that are open finish. Free. `continue` goes on.
    """),
    "continue": _line("""
        Go on after `pause`; or, if no process works on the run, start one that sends what is left of it, which
        COSTS MONEY out of the person's cap.
    """),
    "stop": _line("""
        End a running session. Open requests may finish; a second call drops them. Free. What is left can be
        sent with `continue`.
    """),
    "cancel": _line("""
        Give up rows of a running session: their open requests end, and the rows count as failed. Free.
    """),
    "requeue": _line("""
        COSTS MONEY. Send failed rows again in the session that is running, within what it may spend.
    """),
    "set": _line("""
        Change how fast a running session sends: open requests, requests or tokens per minute. Free. With
        `max_cost`, its run stops earlier, or as late as what this session was given allows.
    """),
}
"""By the name of a tool."""
