"""The settings as keyword arguments, with their types, for type checkers. A test compares them with ``settings.SETTINGS``."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict


class CommonSettings(TypedDict, total=False):
    """The settings of a job as ``estimate`` takes them, whose own ``sample`` means something else."""

    provider: str | None
    model: str | None
    base_url: str | Sequence[str] | None
    api_key_env: str | Sequence[str] | None
    endpoints: Sequence[Mapping[str, Any]] | None
    fallback_on: str | Sequence[str] | None
    headers: Mapping[str, str] | Sequence[str] | None
    query: Mapping[str, str] | Sequence[str] | None
    concurrency: int | Literal["auto"] | None
    max_concurrency: int | None
    workers: int | Literal["auto"] | None
    listen: str | None
    engine: str | None
    engine_address: str | None
    engine_options: str | Sequence[str] | None
    share: bool | None
    serve_limits: str | None
    join: str | None
    rpm: float | None
    tpm: float | None
    input_tpm: float | None
    output_tpm: float | None
    money_codes: str | Sequence[str] | None
    rate_codes: str | Sequence[str] | None
    finish_retry: str | Sequence[str] | None
    finish_fail: str | Sequence[str] | None
    finish_done: str | Sequence[str] | None
    strict_params: bool | None
    prices: Literal["list"] | Mapping[str, Any] | None
    answers: int | None
    max_cost: float | None
    max_cost_session: float | None
    max_tokens_total: int | None
    confirm_above: float | None
    tier: str | None
    flex_patience: float | str | None
    mode: Literal["live", "batch", "mixed"] | None
    by: str | None
    within: float | str | None
    warm_prefix: bool | None
    cache_prefix: bool | None
    attempts: int | None
    patience_s: int | None
    deadline: float | str | None
    ok_failed: int | str | None
    durability: Literal["full", "normal"] | None
    input_format: str | None
    encoding: str | None
    delimiter: str | None
    sheet: str | None
    id_column: str | None
    columns: str | Sequence[str] | None
    where: str | None
    sample_seed: int | None
    row_settings: bool | None
    prompt: str | None
    prompt_file: str | None
    messages: Sequence[Mapping[str, Any]] | None
    images: str | Sequence[str] | None
    files: str | Sequence[str] | None
    files_root: str | None
    keep_rows: bool | None
    reuse: bool | None
    dedupe: bool | None
    system: str | None
    schema: str | Mapping[str, Any] | type | None
    fields: str | None
    schema_mode: Literal["auto", "response_format", "tool", "guided", "none"] | None
    repairs: int | None
    fail_fast: bool | None
    stop_when: str | None
    stream: bool | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    seed: int | None
    extra_body: Mapping[str, Any] | None
    connect_s: float | str | None
    first_byte_s: float | str | None
    silence_s: float | str | None
    attempt_s: float | str | None


class JobSettings(CommonSettings, total=False):
    """The settings of a job as ``run`` takes them: ``run("rows.csv", **settings)``. None leaves a setting to the job file.

    ``docs/reference/settings.md`` says what each means. ``stop`` is missing here: it is an argument of its own of ``run``.
    """

    sample: int | None


class AllSettings(JobSettings, total=False):
    """All settings, for a function that has no argument ``stop`` of its own."""

    stop: str | Sequence[str] | None


class AskSettings(JobSettings, total=False):
    """What ``Session`` takes beside its own arguments. trust: allow what only the environment or a file asks for."""

    trust: bool


class StreamSettings(JobSettings, total=False):
    """What ``stream`` and ``events`` take beside their own arguments.

    strict: refuse to start if a row is broken. trust: allow what only the job file asks for, secrets to a server and code.
    name: what the run is to be called. tags: marks that it gets, each a word or word=value.
    """

    strict: bool
    trust: bool
    name: str | None
    tags: Sequence[str] | None


class RunSettings(StreamSettings, total=False):
    """What ``run`` and ``arun`` take beside their own arguments.

    progress: show the progress; by default it is shown where a person looks (``progress.watching``). detach: leave as soon as all
    batches are submitted; a later session takes their answers.
    """

    progress: bool | None
    detach: bool


class ResumeSettings(JobSettings, total=False):
    """What ``resume`` and ``aresume`` take beside their own arguments. detach: as in ``RunSettings``."""

    detach: bool


class RetrySettings(JobSettings, total=False):
    """What ``retry`` and ``aretry`` take beside their own arguments.

    all_rows: every row that has an outcome. trust, progress, detach: as in ``RunSettings``.
    """

    all_rows: bool
    detach: bool
    trust: bool
    progress: bool | None


class EstimateSettings(CommonSettings, total=False):
    """What ``estimate`` takes beside its own arguments, as ``RunSettings``."""

    stop: str | Sequence[str] | None
    strict: bool
    trust: bool
    progress: bool | None
