"""The beginning of programs that call the Python API, and that a test stops."""

OBSERVED = """
import signal, sys, runner
# where the tests run in the background, their parent has them ignore it
signal.signal(signal.SIGINT, signal.default_int_handler)
def observe(event):
    if type(event).__name__ == "Stopping":
        print("stopping", flush=True)
"""
"""Imports ``runner``, has Ctrl-C raise KeyboardInterrupt, and defines an observer that prints when the session begins to stop."""


def run_texts(texts: list[str], url: str) -> int:
    """Run prompts in a process of a pool, which imports this module and no other; return how many are done."""
    import runner

    return runner.run(texts, db=f"{len(texts)}.db", model="m", base_url=url).done
