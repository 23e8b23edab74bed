"""Every setting of a job, described once: key, option, variable, kind and bounds. Imports nothing heavy: --help loads it."""

from typing import Any, Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal[
    "text",
    "int",
    "float",
    "texts",
    "json",
    "slots",
    "span",
    "choice",
    "bool",
    "share",
    "headers",
    "query",
    "messages",
    "prices",
    "schema",
    "tables",
]


class Setting(NamedTuple):
    """One setting.

    key: dotted path in the job file. kind: "text" is a string, "texts" a string or a list of strings, "json" an object, "slots" a
    number or "auto", "span" a number of seconds or a string such as 30m, "choice" one of ``choices``, "bool" true or false,
    "share" a number or a percentage, "prices" the word list or an object, "headers" and "query" an object of strings, or a list
    of strings such as ``Name: value`` and ``name=value``, "schema" a JSON Schema or its file, "tables" a list of objects. Numbers
    with a lower bound may be written with k, M or G.
    least: lower bound, inclusive for whole numbers and exclusive for floats and spans, unless ``inclusive`` says otherwise.
    default: None leaves the value to the provider, or unset.
    answer: True if the setting changes the answers, so that a different value starts a new run. A new one must
    not have a default, or the runs of older versions would be taken for others.
    """

    key: str
    kind: Kind
    help: str
    default: Any = None
    least: float | None = None
    answer: bool = False
    choices: tuple[str, ...] = ()
    # a float or span may be as small as ``least``
    inclusive: bool = False
    # the option, where it is not made from the name
    flag: str = ""

    @property
    def name(self) -> str:
        """Last part of the key, unique among all settings: the attribute of a job and the parameter of an option.

        In ``[finish]`` the parts are common words, so the name has both.
        """
        return self.key.replace(".", "_") if self.key.startswith("finish.") else self.key.rpartition(".")[2]

    @property
    def option(self) -> str:
        """The command-line option. For "bool" there is also the one with ``no-`` in front of the name."""
        return self.flag or "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return "RUNNER_" + self.name.upper()


LEAST_PER_MINUTE = 0.0001
"""Lower bound for rates: at a smaller rate no request would go out for weeks."""

SETTINGS = (
    Setting("provider", "text", "openai, anthropic, simulator, or the name of a plug-in.", "openai", answer=True),
    Setting("model", "text", "Name of the model.", answer=True),
    Setting(
        "base_url", "texts", "Endpoint URL, of several one each; file:PATH names a list. OpenAI: ends in /v1. Anthropic: without."
    ),
    Setting("api_key_env", "texts", "Environment variable that holds the API key; of several accounts one each; empty: no key."),
    # Not an answer setting: the endpoints of a run come and go, and each attempt says which one it was.
    Setting(
        "endpoints", "tables", "Endpoints, as a JSON list of objects with base_url, api_key_env, model, weight, fallback, prices."
    ),
    Setting("fallback_on", "texts", "When fallback endpoints get rows: outage, rate_limited, content_policy; may be repeated."),
    Setting(
        "headers",
        "headers",
        "Header to add to every request, as 'Name: value'; may be repeated. ${NAME} stands for an environment variable.",
        flag="--header",
    ),
    Setting("query", "query", "Part of the query to add to the address, as name=value; may be repeated."),
    Setting("concurrency", "slots", "Maximum number of open requests; auto adapts it to what the server accepts.", "auto", 1),
    Setting("max_concurrency", "int", "Highest number that auto tries.", 256, 1),
    Setting("workers", "slots", "Processes that send the requests; auto: one for each processor. 0: runner itself does.", 0, 0),
    Setting("listen", "text", "Let workers on other machines join at this HOST or HOST:PORT (`runner worker`)."),
    Setting("engine", "text", "What starts the workers: local, ray, slurm, kubernetes, or the name of a plug-in."),
    Setting("engine_address", "text", "Cluster: of ray HOST:PORT, of slurm its name, of kubernetes a context.", flag="--address"),
    Setting("engine_options", "texts", "Option of the engine, as NAME=VALUE; may be repeated.", flag="--engine-option"),
    # Not answer settings: they say with whom the limits are shared.
    Setting(
        "share",
        "bool",
        "Share limits with runs of the same endpoint, model and key on this machine. --no-share: do not.",
        True,
    ),
    Setting("serve_limits", "text", "Let runs on other machines share the limits, at this HOST or HOST:PORT (--join)."),
    Setting("join", "text", "Share the limits of the run that serves them at this HOST:PORT (--serve-limits)."),
    Setting("rpm", "float", "Maximum requests per minute; limits that the server reports are kept too.", None, LEAST_PER_MINUTE),
    Setting("tpm", "float", "Maximum tokens per minute, input and output together.", None, LEAST_PER_MINUTE),
    Setting("input_tpm", "float", "Maximum input tokens per minute.", None, LEAST_PER_MINUTE),
    Setting("output_tpm", "float", "Maximum output tokens per minute.", None, LEAST_PER_MINUTE),
    Setting("money_codes", "texts", 'More error codes to treat as "out of credit" (they stop the run).'),
    Setting("rate_codes", "texts", 'More error codes to treat as a rate limit, even if they sound like "out of credit".'),
    Setting("finish.retry", "texts", "Finish reason (or: empty) that counts as a failed attempt; the row is sent again."),
    Setting("finish.fail", "texts", "Finish reason (or: empty) that fails the row; its text is kept, and it is not sent again."),
    Setting("finish.done", "texts", "Finish reason that counts as a whole answer, although runner would try it again."),
    Setting(
        "strict_params",
        "bool",
        "Stop when the model refuses a parameter, such as temperature. By default it is left out, and that is said.",
        False,
    ),
    Setting(
        "prices",
        "prices",
        "Dollars per million tokens, by model, as a JSON object; or list: the provider's list prices hold at this address too.",
    ),
    Setting("answers", "int", "Answers of each row, each a result of its own. Default: as many as the run has, else 1.", None, 1),
    Setting(
        "max_cost",
        "float",
        "Dollars that the run may cost at most, over all its sessions. No request goes out that might cost more than is left.",
        None,
        0,
    ),
    Setting("max_cost_session", "float", "Dollars that this session may cost at most.", None, 0),
    Setting("max_tokens_total", "int", "Tokens, input and output together, that the run may use at most.", None, 1),
    Setting(
        "confirm_above",
        "float",
        "Ask on a terminal before a session starts that is expected to cost more than so many dollars.",
        10.0,
        0,
    ),
    # Not an answer setting: the same model answers, later and for another price.
    Setting("tier", "text", "Service tier to ask for, by the provider's name of it: flex (half price, slower), priority, ..."),
    Setting(
        "flex_patience",
        "span",
        "With flex: send a row at the standard tier once flex has had no capacity for it for this time; 0: at once.",
        600.0,
        0,
        inclusive=True,
    ),
    # Not answer settings either: they say which way requests go to the same model.
    Setting(
        "mode",
        "choice",
        "live: send each row at once. batch: by the provider's batch API, cheaper, within a day. mixed: batch first, then live.",
        "live",
        choices=("live", "batch", "mixed"),
    ),
    Setting("by", "text", "With batch or mixed: when the run is to be done, as 07:00 or '2026-12-02 07:00' of this clock."),
    Setting("within", "span", "With batch or mixed: in what time from its start a session is to be done, such as 6h.", None, 0),
    # Not answer settings either: they change when a row goes out, and what a provider keeps of it.
    Setting(
        "warm_prefix",
        "bool",
        "Send the first row of each shared prefix alone until its answer begins; then the provider's cache has it for others.",
    ),
    Setting("cache_prefix", "bool", "Mark shared prefixes for the provider's cache (Anthropic: cache_control).", False),
    Setting("attempts", "int", "Maximum attempts per row; rate limits and outages do not count.", 5, 1),
    Setting(
        "patience_s",
        "int",
        "Stop the run after the server has refused every row alike for this many seconds; 0: such rows fail at once.",
        120,
        0,
    ),
    Setting("deadline", "span", "Stop the run after this time, in seconds or as 30m, 8h; it can be continued later.", None, 0),
    Setting("ok_failed", "share", "Exit with 0 if at most so many rows of the run failed: a number, or a share such as 2%."),
    Setting(
        "durability",
        "choice",
        "full: every answer is synced to the disk. normal: a power cut may lose the last answers.",
        "full",
        choices=("full", "normal"),
    ),
    # Not answer settings, like the next one: which rows they change is seen by their fingerprints.
    Setting("input_format", "text", "Format of the input: csv, txt, json, ...; default: by its ending, else by looking."),
    Setting("encoding", "text", "Encoding of a CSV or text input; default: found out."),
    Setting("delimiter", "text", "What separates the cells of a CSV input: one character, or tab; default: found out."),
    Setting("sheet", "text", "Sheet of a spreadsheet, by its name or number; default: the first."),
    Setting("id_column", "text", "Field that is the id of a row.", "id"),
    Setting("columns", "texts", "Fields of a row to keep with the answer, separated by commas; may be repeated. Default: all."),
    Setting("where", "text", "Use only the rows for which this expression holds, such as \"lang == 'de'\"."),
    Setting("sample", "int", "Use only so many rows, chosen at random.", None, 1),
    Setting("sample_seed", "int", "Another number chooses other rows for --sample.", 0),
    # Not an answer setting: which rows it changes is seen by their fingerprints.
    Setting(
        "row_settings",
        "bool",
        "Use the fields system, model, temperature, ... of a row as its settings. --no-row-settings: they are plain data.",
        True,
    ),
    Setting(
        "prompt",
        "text",
        "Template of the prompt: {{ NAME }} stands for the field NAME of a row. {{ row['a name'] }} for any name.",
        answer=True,
    ),
    Setting("prompt_file", "text", "File that holds this template."),
    Setting("messages", "messages", "Templates of messages, as a JSON list of objects with role and content.", answer=True),
    Setting(
        "images",
        "texts",
        "Field that names pictures of a row: paths, URLs or data URIs; may be repeated. Default: images.",
        answer=True,
    ),
    Setting(
        "files",
        "texts",
        "Field that names files of a row (PDFs, recordings, pictures); may be repeated. Default: files.",
        answer=True,
    ),
    Setting("files_root", "text", "Folder in which these files are. No others are read. Default: that of the prompt file."),
    Setting("keep_rows", "bool", "Keep in the store what each row asked. --no-keep-rows: only its other fields.", True),
    Setting("reuse", "bool", "Take over the answers of earlier runs to the same requests. --no-reuse: send every row.", True),
    Setting("dedupe", "bool", "Send rows that ask exactly the same once; the others get the same answer.", False),
    Setting(
        "system",
        "text",
        "System prompt; a row's own system text replaces it. A template beside another one.",
        answer=True,
    ),
    Setting(
        "schema",
        "schema",
        "JSON Schema that every answer must fit: a file, or a JSON object. Its fields become columns.",
        answer=True,
    ),
    Setting(
        "fields",
        "text",
        "Short form of a schema, such as 'sentiment: good|bad|mixed, reason: str, tags: list[str]'.",
        answer=True,
    ),
    Setting(
        "schema_mode",
        "choice",
        "How the schema is sent. none: it is not sent, and answers are only checked. Default: the provider's own way.",
        choices=("auto", "response_format", "tool", "guided", "none"),
        answer=True,
    ),
    # Not an answer setting, like attempts: it changes which rows have an answer, and no answer.
    Setting("repairs", "int", "How often a row whose answer does not fit the schema is asked again, with the reason.", 1, 0),
    Setting("fail_fast", "bool", "End an answer as soon as it can no longer fit the schema.", False),
    Setting(
        "stop_when", "text", "Regular expression: end an answer in whose text it is found; the row fails, and its text is kept."
    ),
    Setting("stream", "bool", "Ask for answers in pieces. --no-stream: each in one piece, for servers that cannot stream.", True),
    Setting("params.max_tokens", "int", "Maximum tokens of an answer.", None, 1, answer=True),
    Setting("params.temperature", "float", "Sampling temperature.", answer=True),
    Setting("params.top_p", "float", "Nucleus sampling.", answer=True),
    Setting("params.stop", "texts", "Text that ends an answer; may be repeated.", answer=True),
    Setting("params.seed", "int", "Sampling seed, if the endpoint supports one.", answer=True),
    Setting("params.extra_body", "json", "JSON object to merge into the request body.", answer=True),
    Setting("timeouts.connect_s", "span", "Abort an attempt that takes more than this many seconds to connect.", 10.0, 0),
    Setting(
        "timeouts.first_byte_s",
        "span",
        "Abort an attempt if no piece of its answer comes for this many seconds; a model may think first.",
        300.0,
        0,
    ),
    Setting("timeouts.silence_s", "span", "Abort an answer that stalls for this many seconds.", 60.0, 0),
    Setting("timeouts.attempt_s", "span", "Abort an attempt after this many seconds in all.", 600.0, 0),
)
_UNITS = {"k": 1e3, "m": 1e6, "g": 1e9}


def parse_count(text: str) -> float | None:
    """Read a number such as ``250``, ``100k``, ``1.5M`` or ``100_000``; None if it is none. ``inf`` and ``nan`` are none."""
    words = text.strip().replace("_", "").casefold()
    unit = _UNITS.get(words[-1:], 1.0)
    try:
        value = float(words.removesuffix(words[-1:]) if unit > 1 else words) * unit
    except ValueError:
        return None
    return value if abs(value) < 1e300 else None


BY_NAME = {setting.name: setting for setting in SETTINGS}
