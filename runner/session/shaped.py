"""The schema of a job, as its requests ask for it and as its answers are checked."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from runner.answer_shape import SHAPE_NAME, AnswerShape, How
from runner.config import plugins
from runner.config.endpoint import provider_of
from runner.config.job import Job
from runner.errors import UsageError
from runner.model import Json
from runner.providers.finish import is_cut

if TYPE_CHECKING:
    from runner.schema.answers import AnswerCheck
    from runner.schema.partial import Partial

_SHOWN = 3
"""Changes of a schema that a note tells."""


def shape_of(job: Job) -> AnswerShape | None:
    """Return how the requests of a job ask for its schema; None if they do not. Raises UsageError for one that cannot be used."""
    if job.schema is None:
        if job.fail_fast:
            raise UsageError(
                "fail_fast ends answers that can no longer fit a schema, and there is none; add --fields or --schema"
            )
        return None
    # a schema that is broken is refused here, before anything is sent
    check = check_of(job)
    if job.fail_fast and check is not None:
        check.growing()
    return _shape(job, job.schema, job.schema_mode)


def shape_in(job: Job, settings: Mapping[str, Json]) -> AnswerShape | None:
    """Return the same for the stored settings of a run with the provider of a job."""
    schema = settings.get("schema")
    return _shape(job, schema, settings.get("schema_mode")) if isinstance(schema, dict) else None


def body_in(settings: Mapping[str, Json]) -> dict[str, Json]:
    """Return what stored settings add to the body of a chat completion, in the dialect that most programs read."""
    schema = settings.get("schema")
    if not isinstance(schema, dict) or settings.get("schema_mode") == "none":
        return {}
    # imported here, as below
    from runner.schema.provider_rules import openai

    named = {"name": SHAPE_NAME, "schema": schema, "strict": not openai(schema)}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def check_of(job: Job) -> "AnswerCheck | None":
    """Return what checks the answers of a job; None if it has no schema. Raises UsageError for one that cannot be used."""
    if job.schema is None:
        return None
    # imported here: few jobs have a schema
    from runner.schema.answers import AnswerCheck

    return AnswerCheck(job.schema, is_cut)


def values_of(job: Job) -> "Callable[[], Partial] | None":
    """Return what makes for each attempt of a job what reads its answer while it comes; None without a schema."""
    if job.schema is None:
        return None
    # imported here, as above
    from runner.schema.partial import follower

    # who has not its library wants no values
    with suppress(UsageError):
        return follower()
    return None


def notes(job: Job) -> list[str]:
    """Return what a person should know of how a schema is sent, one sentence each."""
    if job.schema is None or job.schema_mode == "none":
        return []
    shape, changes = shape_of(job), changes_of(job)
    if shape is None:
        return [f"provider {job.provider} has no way to send a schema: nothing is sent of it, and each answer is checked"]
    if not changes or shape.how == "guided" or (shape.how == "tool" and job.schema_mode == "tool"):
        return []
    more = f"; and {len(changes) - _SHOWN} more (`runner check`)" if len(changes) > _SHOWN else ""
    wanted = "; ".join(changes[:_SHOWN]) + more
    if shape.how == "tool":
        return [f"the schema is sent as a tool, since the provider's own format takes only a part of JSON Schema: {wanted}"]
    return [f"the schema is sent without strict, so answers may break it, and each is checked. For strict, {wanted}"]


def changes_of(job: Job) -> list[str]:
    """Return what has to be changed in the schema of a job so that its provider keeps it in every answer."""
    # imported here, as above
    from runner.schema.provider_rules import RULES

    rules = RULES.get(_dialect(job))
    return rules(job.schema) if rules is not None and job.schema is not None else []


def _shape(job: Job, schema: Mapping[str, Json], mode: str | None) -> AnswerShape | None:
    from runner.schema.provider_rules import RULES

    local = job.local_server
    module = provider_of(job, os.environ) if local is None else plugins.load("providers", local.dialect)
    known: tuple[How, ...] = getattr(module, "SCHEMA_MODES", ())
    if mode == "none" or (not known and mode in (None, "auto")):
        return None
    name = _dialect(job)
    changes = RULES[name](schema) if name in RULES else []
    strict = name == "openai" and not changes
    if mode in (None, "auto"):
        return AnswerShape(schema=schema, how="tool" if name == "anthropic" and changes else known[0], strict=strict)
    how = next((one for one in known if one == mode), None)
    if how is None:
        modes = ", ".join(("auto", *known, "none"))
        raise UsageError(f"provider {job.provider} cannot send a schema as {mode}; schema_mode may be {modes}")
    if name == "anthropic" and how == "response_format" and changes:
        raise UsageError(
            f"Anthropic does not take the schema as response_format: {'; '.join(changes[:_SHOWN])}. Change that, or use "
            "--schema-mode tool"
        )
    return AnswerShape(schema=schema, how=how, strict=strict and how != "guided")


def _dialect(job: Job) -> str:
    return job.provider if job.local_server is None else job.local_server.dialect
