"""The value of a setting as the store has it."""

from pathlib import Path
from typing import Any

from runner.config.job_file import read_toml
from runner.config.settings import BY_NAME, Setting
from runner.config.values import check
from runner.errors import StoreError, UsageError


def stored_value(name: str, value: Any) -> Any:
    """Return the value of a stored setting. Raises StoreError if it is none: the store is damaged, or somebody has changed it."""
    setting = BY_NAME[name]
    if setting.kind in ("headers", "query"):
        return value
    try:
        checked = _check(setting, value)
    except UsageError as error:
        raise StoreError(f"a setting of the run is damaged: {error}; give it with {setting.option}, or start a new run") from None
    # one text alone stays a list: another value would be another run
    return value if isinstance(value, list) else checked


def _check(setting: Setting, value: Any) -> Any:
    if setting.kind == "schema" and isinstance(value, str):
        raise UsageError(f"{setting.key} must be a JSON object, and no name of a file (in the store)")
    return check(setting, value, "in the store")


def headers_in(job_file: Path) -> dict[str, str]:
    """Return the headers of a job file, for those whose values the store has not kept."""
    table = read_toml(job_file).get("headers", {}) if job_file.is_file() else {}
    headers: dict[str, str] = check(BY_NAME["headers"], table, f"in {job_file}")
    return headers
