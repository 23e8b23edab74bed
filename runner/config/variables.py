"""Environment variables that begin like ours, and which of them mean something."""

from collections.abc import Mapping

from runner.config.settings import SETTINGS

OTHER_VARIABLES = (
    "RUNNER_DB",
    "RUNNER_TRACEBACK",
    "RUNNER_TEST_FRESH",
    "RUNNER_WORKER_TOKEN",
    "RUNNER_LIMITS_TOKEN",
    "RUNNER_MCP_TOKEN",
)
"""Variables of ours that belong to no setting."""

_OF_OTHERS = tuple(
    f"RUNNER_{name}"
    for name in (
        "AFTER_SCRIPT_TIMEOUT", "ALLOW_RUNASROOT", "ARCH", "BUILDS_DIR", "CACHE_DIR", "DEBUG", "ENVIRONMENT", "EXECUTOR", "ID",
        "MANUALLY_TRAP_SIG", "NAME", "OS", "PERFLOG", "SCRIPT_TIMEOUT", "SHELL", "TAG_LIST", "TEMP", "TOKEN", "TOOL_CACHE",
        "TOOLSDIRECTORY", "TRACKING_ID", "URL", "USER", "WORKSPACE",
    )
)  # fmt: skip
"""Variables that build services set, whose own runners use the same prefix."""


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Return a sentence about every RUNNER_* variable that means nothing to us, with the name that was probably meant."""
    known = {*(setting.variable for setting in SETTINGS), *OTHER_VARIABLES}
    sentences = []
    for name in sorted(environment):
        if not name.upper().startswith("RUNNER_") or name in (*known, *_OF_OTHERS) or not environment[name]:
            continue
        # imported here: a misspelt variable is rare
        from runner.text import nearest

        near = nearest(name, known)
        sentences.append(f"{name} is set, but runner has no such variable" + (f"; did you mean {near}?" if near else ""))
    return sentences
