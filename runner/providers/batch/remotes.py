"""Reads what providers say about a batch. Pure; the values may have any type, and what is missing is None."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from runner.batches import BatchCounts, BatchRules, Fault, Remote
from runner.model import Json
from runner.providers.batch.rules import STATES, End, Phase, kept_until
from runner.providers.lenient_json import count, json_text, table, word
from runner.providers.refusal import quote
from runner.text import Redactor

TOKEN = "runner"  # noqa: S105 - the name of a field
"""The key in a batch's metadata under which its token is."""

QUOTA = "batch_quota"
"""Code of a batch that was refused since too many tokens wait at the provider."""
_QUOTA_CODES = frozenset({"token_limit_exceeded", "batch_queue_full", "enqueued_token_limit_exceeded"})
_QUEUED = re.compile(r"enqueued.{0,20}token", re.IGNORECASE)
_ENDS = {
    "completed": ("completed_at", "ended_at"),
    "expired": ("expired_at", "completed_at", "ended_at"),
    "cancelled": ("cancelled_at", "completed_at", "ended_at"),
    "failed": ("failed_at", "completed_at", "ended_at"),
}
_MOST_FAULTS = 1000
_MILLISECONDS = 1e11


def instant(value: Json) -> float | None:
    """Return seconds since the epoch for a number, or an RFC 3339 text with any offset; a text without one is in UTC."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        # some gateways count milliseconds
        seconds = float(value) if value < _MILLISECONDS else value / 1000
        return seconds if 0 < seconds < _MILLISECONDS else None
    if not isinstance(value, str) or not value:
        return None
    if value.isdecimal() and value.isascii():
        return instant(int(value[:20]))
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def http_date(text: str | None) -> float | None:
    """Return the instant of a Date header."""
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except ValueError:
        return None


def openai_remote(value: Json, rules: BatchRules) -> Remote | None:
    """Read a batch as OpenAI and those like it describe it; None if it has no id."""
    batch = table(value)
    name = word(batch.get("id"))
    if name is None:
        return None
    own = word(batch.get("status")) or ""
    phase, end = STATES.get(own.lower(), ("working", None))
    ended_at = next((at for field in _ENDS.get(end or "", ()) if (at := instant(batch.get(field))) is not None), None)
    created_at = instant(batch.get("created_at"))
    return Remote(
        id=name,
        phase=phase,
        end=end,
        counts=_openai_counts(batch),
        created_at=created_at,
        expires_at=instant(batch.get("expires_at")) or instant(batch.get("job_deadline")),
        ended_at=ended_at,
        kept_until=kept_until(rules, ended_at or created_at) if phase == "ended" else None,
        # the ids may be there before the end, and are empty texts where there is no file
        results=_openai_results(batch) if phase == "ended" else (),
        faults=_faults(batch),
        token=word(table(batch.get("metadata")).get(TOKEN)),
        word=own,
    )


def input_of(value: Json) -> str | None:
    """Return the id of the file of requests of a batch."""
    batch = table(value)
    files = batch.get("input_files")
    return word(batch.get("input_file_id")) or (word(files[0]) if isinstance(files, list) and files else None)


def anthropic_remote(value: Json, rules: BatchRules) -> Remote | None:
    """Read a batch as Anthropic describes it; None if it has no id."""
    batch = table(value)
    name = word(batch.get("id"))
    if name is None:
        return None
    own = word(batch.get("processing_status")) or ""
    phase: Phase = STATES.get(own.lower(), ("working", None))[0] if own != "ended" else "ended"
    by_kind = table(batch.get("request_counts"))
    kinds = {kind: count(by_kind.get(kind)) or 0 for kind in ("processing", "succeeded", "errored", "canceled", "expired")}
    created_at = instant(batch.get("created_at"))
    # an archived batch has lost its results
    archived_at = instant(batch.get("archived_at"))
    there = phase == "ended" and word(batch.get("results_url")) is not None and batch.get("archived_at") is None
    return Remote(
        id=name,
        phase=phase,
        end=_anthropic_end(batch, kinds) if phase == "ended" else None,
        counts=BatchCounts(
            total=sum(kinds.values()),
            done=kinds["succeeded"],
            failed=kinds["errored"] + kinds["canceled"] + kinds["expired"],
        ),
        created_at=created_at,
        expires_at=instant(batch.get("expires_at")),
        ended_at=instant(batch.get("ended_at")),
        kept_until=(archived_at or kept_until(rules, created_at)) if phase == "ended" else None,
        # the id, not the address: the key goes to no host but our own
        results=(name,) if there else (),
        word=own,
    )


def _anthropic_end(batch: Mapping[str, Any], kinds: Mapping[str, int]) -> End:
    if batch.get("cancel_initiated_at") is not None and kinds["canceled"]:
        return "cancelled"
    return "expired" if kinds["expired"] else "completed"


def _openai_counts(batch: Mapping[str, Any]) -> BatchCounts:
    counts = table(batch.get("request_counts"))
    done = count(counts.get("completed"))
    if done is None:
        done = count(batch.get("succeeded_requests"))
    return BatchCounts(
        total=count(counts.get("total")) or count(batch.get("total_requests")) or 0,
        done=done or 0,
        failed=count(counts.get("failed")) or count(batch.get("failed_requests")) or 0,
    )


def _openai_results(batch: Mapping[str, Any]) -> tuple[str, ...]:
    fields = ("output_file_id", "output_file", "error_file_id", "error_file")
    found = (word(batch.get(field)) for field in fields)
    return tuple(dict.fromkeys(name for name in found if name))


def _faults(batch: Mapping[str, Any]) -> tuple[Fault, ...]:
    errors = batch.get("errors")
    entries = table(errors).get("data") if isinstance(errors, dict) else errors
    if not isinstance(entries, list):
        # Together has one text
        entries = [errors or batch.get("error")] if errors or batch.get("error") else []
    return tuple(_fault(entry) for entry in entries[:_MOST_FAULTS])


def _fault(entry: Json) -> Fault:
    """Read a fault. Its message is foreign text on one line, without what looks like a key."""
    fields = table(entry)
    code, line = word(fields.get("code")) or "", count(fields.get("line"))
    message = fields.get("message") if fields else entry
    text = quote(json_text(message), Redactor(())) if message else ""
    full = code.lower() in _QUOTA_CODES or _QUEUED.search(text) is not None
    return Fault(line=line or None, code=QUOTA if full else code, message=text)
