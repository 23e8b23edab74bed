"""Entry point of ``python -m runner`` and the script ``runner``. It imports little, so that an early Ctrl-C ends quietly."""

import sys
from _thread import LockType, allocate_lock, get_ident, interrupt_main, start_new_thread
from time import sleep

_AGAIN_S = 0.05


def main() -> None:
    """Run the command line."""
    sys.unraisablehook = _raise_again
    try:
        from runner.cli.main import main as command_line
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    command_line()


def _raise_again(dropped: "sys.UnraisableHookArgs") -> None:
    """Raise a Ctrl-C again that Python would print and drop.

    It does so where the signal meets a finalizer or the callback of a weak reference; its import system has such a callback.
    """
    if not issubclass(dropped.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(dropped)
        return
    done = allocate_lock()
    with done:
        start_new_thread(_interrupt, (done, get_ident()))


def _interrupt(done: LockType, main_thread: int) -> None:
    """Interrupt the main thread once it has left the hook, in which it would drop the signal again."""
    with done:
        sleep(_AGAIN_S)
    import signal

    if hasattr(signal, "pthread_kill"):
        # a signal of the system ends a call in which the thread waits
        signal.pthread_kill(main_thread, signal.SIGINT)
    else:
        interrupt_main()


if __name__ == "__main__":
    main()
