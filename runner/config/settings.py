"""Every setting of a job, once: key, option, variable, kind and bounds. Imports nothing heavy."""

from typing import Any, Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["text", "int", "float", "texts", "json", "slots", "span", "choice"]


class Setting(NamedTuple):
    """One setting.

    key: dotted path in the job file. kind: "texts" is one text or a list of them, "json" an object, "slots" a number or
    "auto", "span" seconds, or a text such as 30m.
    least: the smallest value allowed; exclusive for floats. choices: the texts that a "choice" allows.
    default: None leaves it to the provider, or unset.
    answer: it changes answers, so another value makes another run.
    """

    key: str
    kind: Kind
    help: str
    default: Any = None
    least: float | None = None
    answer: bool = False
    choices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The setting's last name, unique among all: an attribute of a job, a parameter of an option."""
        return self.key.rpartition(".")[2]

    @property
    def option(self) -> str:
        """Its option on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return "RUNNER_" + self.name.upper()


LEAST_PER_MINUTE = 0.0001
"""A smaller rate would let nothing out for weeks."""

SETTINGS = (
    Setting("provider", "text", "openai, anthropic or simulator, or the name of a plug-in.", "openai", answer=True),
    Setting("model", "text", "Model to ask for.", answer=True),
    Setting(
        "base_url",
        "text",
        "Endpoint as the official SDKs mean it: openai up to /v1, anthropic without it.",
        answer=True,
    ),
    Setting("api_key_env", "text", "Name of the environment variable that holds the key."),
    Setting("concurrency", "slots", "Requests in flight at most; auto finds the number that the server takes.", "auto", 1),
    Setting("max_concurrency", "int", "The most that auto tries.", 256, 1),
    Setting(
        "rpm",
        "float",
        "Requests per minute at most; the server's own limits are kept in any case where it tells them.",
        None,
        LEAST_PER_MINUTE,
    ),
    Setting("tpm", "float", "Tokens per minute at most, input and output together.", None, LEAST_PER_MINUTE),
    Setting("input_tpm", "float", "Input tokens per minute at most.", None, LEAST_PER_MINUTE),
    Setting("output_tpm", "float", "Output tokens per minute at most.", None, LEAST_PER_MINUTE),
    Setting("money_codes", "texts", "Further error names of this endpoint that mean no money, so that the run stops."),
    Setting("rate_codes", "texts", "Error names of this endpoint that mean a rate limit, although they speak of quota or money."),
    Setting("attempts", "int", "Attempts per item at most; rate limits and outages use none.", 5, 1),
    Setting(
        "deadline", "span", "How long a session may take, in seconds or as 30m, 8h; then it stops, and can go on later.", None, 0
    ),
    Setting(
        "durability",
        "choice",
        "full: an answer counts when the disk has synced it. normal: a power cut may cost the last answers.",
        "full",
        choices=("full", "normal"),
    ),
    Setting("system", "text", "System text; a row's own system message wins over it.", answer=True),
    Setting("params.max_tokens", "int", "Tokens of an answer at most.", None, 1, answer=True),
    Setting("params.temperature", "float", "Sampling temperature.", answer=True),
    Setting("params.top_p", "float", "Nucleus sampling.", answer=True),
    Setting("params.stop", "texts", "Text that ends an answer; may be given several times.", answer=True),
    Setting("params.seed", "int", "Sampling seed, where the endpoint knows one.", answer=True),
    Setting("params.extra_body", "json", "JSON object merged into the request body as it is.", answer=True),
    Setting("timeouts.connect_s", "float", "Seconds for a connection.", 10.0, 0),
    Setting("timeouts.first_byte_s", "float", "Seconds from the connection to the first byte of the answer.", 120.0, 0),
    Setting("timeouts.silence_s", "float", "Seconds between two bytes of an answer.", 60.0, 0),
    Setting("timeouts.attempt_s", "float", "Seconds for one whole attempt.", 600.0, 0),
)
BY_NAME = {setting.name: setting for setting in SETTINGS}
