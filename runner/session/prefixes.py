"""Whether the rows of a session share a beginning that a provider would cache, and what is done about it."""

import time
from itertools import islice

from runner.config.job import Job
from runner.engine.prefixes import only_head, whole_texts
from runner.engine.warming import Warming
from runner.inputs.heads import Head
from runner.inputs.prompts import Template, make_item
from runner.inputs.scan import PromptFile
from runner.model import Item
from runner.session.opening import template_of
from runner.session.pricing import is_public
from runner.session.wiring import dialect_of
from runner.text import clean

BYTES_PER_TOKEN = 4
"""About right for English; in other languages a prefix of as many tokens has more bytes."""
LEAST_TOKENS = 1_024
"""OpenAI and Anthropic cache no shorter prefix."""
LEAST_OF_OWN = 16
"""The block of vLLM, which may be behind an address that is no vendor's."""

_LOOKED_AT = 1_000
"""Rows that tell whether any share a prefix: as many as are ordered by prefix."""
_CACHE_CONTROL = "'cache_control'"


def warming(job: Job, template: Template) -> Warming | None:
    """Return what holds back the rows of a shared prefix until it is warm; None if a session has no need of it.

    Without a setting, rows are held back only where all have a beginning in common that any provider would cache.
    """
    if job.warm_prefix is False and not job.cache_prefix:
        return None
    head, marks = _head(template), getattr(dialect_of(job), "CACHE_MARKS", False)
    place = (head.messages, head.chars) if head is not None else None
    if job.warm_prefix is None and not job.cache_prefix:
        # what has to be marked is not cached without a mark
        if marks or head is None or place is None or head.size < LEAST_TOKENS * BYTES_PER_TOKEN:
            return None
        return Warming(only_head(place), time.monotonic, shared=True)
    least = LEAST_TOKENS if is_public(job.base_url) or marks else LEAST_OF_OWN
    links = whole_texts(place, least * BYTES_PER_TOKEN)
    return Warming(links, time.monotonic, waits=job.warm_prefix is not False, marks=job.cache_prefix and marks)


def late_field(template: Template) -> str | None:
    """Return a sentence about a template with a field in front of a long constant text, which no cache can then hold; or None."""
    head = _head(template)
    if head is None or head.field is None or head.behind < LEAST_TOKENS * BYTES_PER_TOKEN:
        return None
    field = f"{{{{ {clean(head.field, 40)} }}}}" if head.field else "what varies"
    tokens = head.behind // BYTES_PER_TOKEN // 100 * 100
    text = f"about {tokens:,} tokens of the template are the same for all rows but stand behind {field}"
    return f"{text}: in front of it, a provider's cache can hold them, which makes them cheaper"


def unmarked(job: Job, prompts: PromptFile) -> str | None:
    """Return a sentence where ``cache_prefix`` will mark nothing, as far as the first rows tell; else None.

    Blocks. Only whole texts can be shared: a mark stands for all up to a place that the rows have in common.
    """
    if not job.cache_prefix or not getattr(dialect_of(job), "CACHE_MARKS", False):
        return None
    template = template_of(job)
    head = _head(template)
    place = (head.messages, head.chars) if head is not None else None
    links = whole_texts(place, LEAST_TOKENS * BYTES_PER_TOKEN)
    seen, looked = set[bytes](), 0
    for row in islice(prompts.read(), _LOOKED_AT):
        made = make_item(row, "", template)
        if not isinstance(made, Item):
            continue
        if _CACHE_CONTROL in repr((made.request.messages, made.request.params.extra_body)):
            # marks of the user's own
            return None
        found = {link.hash for link in links(made.request)}
        if found & seen:
            return None
        seen, looked = seen | found, looked + 1
    field = head.field if head is not None and head.messages >= 0 else None
    return _nothing_marked(looked, field) if looked > 1 else None


def _nothing_marked(rows: int, field: str | None) -> str:
    """Return that sentence. rows: those looked at. field: the first one of the template, behind the system text."""
    first = f" (such as --system '{{{{ {clean(field, 40)} }}}}', if that is the field that they share)" if field else ""
    return (
        f"--cache-prefix marks nothing: no two of the first {rows:,} rows begin with the same system text or the same messages "
        f"of {LEAST_TOKENS:,} tokens or more. Only whole texts can be marked, so put what rows share into the system text{first}"
    )


def _head(template: Template) -> Head | None:
    """Return the part of a request that is the same for all rows; None if there is none."""
    if template.texts is not None:
        return template.texts.head
    return Head(0, 0, len(template.system.encode())) if template.system else None
