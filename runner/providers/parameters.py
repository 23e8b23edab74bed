r"""Which parameter a model refuses, from the provider's own words, and requests without it. Pure.

    sent --refused by name--> learned: left out from now on, or sent under its other name
                        \\--> still refused under its other name: the provider's refusal stands

Only parameters that runner writes into the request are learned. What a user has put into ``extra_body`` is never touched, and
nothing that changes the shape of an answer is in the list. Words that the request itself contains teach nothing, since a provider
may quote a prompt. Neither does a refusal of a value: that is the row's own trouble, and other rows keep the parameter.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import TypeAlias

from msgspec import structs

from runner.errors import ProviderError
from runner.model import Json, Request
from runner.providers.classify import snake
from runner.providers.lenient_json import json_text
from runner.several import SEED_NAMES

OTHER_NAME: Mapping[str, str] = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""Parameters with two names. Such a one is sent under its other name; it is never left out, because it limits the cost."""

LEARNABLE = (
    "max_tokens", "max_completion_tokens", "top_p", "temperature", "stop", "stop_sequences", "seed", "random_seed",
    "stream_options", "service_tier",
)  # fmt: skip
"""The names, in a request body, of the parameters that can be learned. Of a pair that excludes each other, the first goes."""

Shape: TypeAlias = tuple[str, frozenset[str]]
_SETTINGS = ("max_tokens", "temperature", "top_p", "stop", "seed")
_STATUSES = (None, 400, 422)
_CODES = ("bad_request", "server_error")
# the provider's own codes that leave no doubt, if the parameter is named as well
_NAMES = frozenset(
    {
        "unsupported_parameter", "unknown_parameter", "unrecognized_parameter", "parameter_not_supported", "extra_forbidden",
    }
)  # fmt: skip
# whatever else is said: a refusal of a range, a length, a type or a form is about the value of one row, and teaches nothing
_OF_A_VALUE = re.compile(
    r"(?<![\w-])(?:max(?:imum)?|min(?:imum)?|range|length)(?![\w-])|[<>\u2264\u2265]=? ?-?\d|[\[(] ?-?[\d.]+ ?, ?-?[\d.]+ ?[\])]"
    r"|\b(?:above|below|between|outside|exceed\w*|greater|larger|higher|bigger|(?<!no )longer|less than|smaller|lower|shorter"
    r"|fewer|more than|at most|at least|up to \d|too (?:many|much|few|long|short|large|big|small|high|low)|positive|negative"
    r"|non-?zero|finite|white ?space\w*|blank|empty|duplicates?|unique|integers?|whole number|floats?|strings?|arrays?|booleans?"
    r"|an? (?:number|list)|(?:invalid|wrong) type|but got|got \d|only values"
    r"|(?:supported|allowed|valid|accepted|permitted|possible) values?(?::|\W+(?:are|is|include)\b)"
    r"|(?:must|should|has to|needs to) be (?:in|one of|an?|of|set) )",
    re.IGNORECASE,
)
_CODES_OF_A_VALUE = re.compile(
    r".*(?:above|below|maximum|minimum|too_|out_of_range|less_than|greater_than|_max|_min|invalid_value|invalid_type|empty|_parsing"
    r"|_type$|_length)"
)
# where the provider has a field for the name: the parameter itself is refused, and no value of it
_WORDS = re.compile(
    r"[^.]*\b(?:parameters?|params?|arguments?|fields?|keys?|propert(?:y|ies)|options?|settings?)\b[^.]*"
    r"(?:unsupported|not? support|n't support|unknown|unrecogni[sz]ed|not permitted|not allowed|deprecated)[^.]*"
    r"|[^.]*(?:unsupported|unknown|unrecogni[sz]ed|not? support\w*|n't support|deprecated)[^.]*"
    r"\b(?:parameters?|params?|arguments?|fields?|keys?|propert(?:y|ies)|options?|settings?)\b[^.]*"
    r"|(?:^|[.:])\W*(?:this |it )?(?:is |are )?(?:unsupported|not? supported|not permitted|not allowed|deprecated"
    r"|extra (?:inputs|fields)[^.]*not (?:permitted|allowed))[^.]*"
    r"|[^.]*(?:only the default|cannot both)[^.]*",
    re.IGNORECASE,
)
# a number in such words is a value, unless it belongs to a name such as gpt-5
_NUMBER = re.compile(r"(?<![\w.-])-?\d+(?:\.\d+)?(?![\w-])")
_SEED = re.compile(r"(?<![a-z])(?:random_?)?seeds?(?![a-z])", re.IGNORECASE)
_TIER = re.compile(r"service[_ -]?tier", re.IGNORECASE)
_EXCLUDED = re.compile(r"cannot|can't|can not|(?:may|must|should) not|not both|only one|exclusive|not allowed", re.IGNORECASE)
_PAIR = r"[^.]{0,60}(?:temperature\W+(?:and|or|with)\W+top_p|top_p\W+(?:and|or|with)\W+temperature)\b[^.]{0,60}"
_NOUN = (
    r"(?:(?:request|model|input|body|keyword|query) )?"
    r"(?:parameter\(s\)|parameters?|params?|arguments?|args?|fields?|keys?|names?|values?|propert(?:y|ies)|options?|settings?|inputs?)"
)
_NOT = (
    r"(?:not (?:currently |yet )?"
    r"(?:supported|permitted|allowed|accepted|recogni[sz]ed|available|implemented|compatible)"
    r"(?! to be| above| below| over| under| greater| less| higher| lower| outside))"
)
# what follows a name if only some of its values are refused
_SOME = r"(?!\W*(?:[<>]|above|below|over|under|greater|less|higher|lower|outside|between|larger|smaller))"
_PATTERNS = (
    # Unsupported parameter: 'max_tokens'; unrecognized request argument supplied: seed; unknown field `seed`
    (
        r"(?:unsupported|unknown|unrecogni[sz]ed|unexpected|extraneous|disallowed|deprecated|extra)"
        r"(?: {noun}(?: (?:supplied|passed|received|found|provided|given))?|:)\W{{0,4}}{name}"
    ),
    # argument not supported on this model: stop; extra inputs are not permitted, field: 'seed'
    (
        r"{noun}(?: is| are)? (?:{nope}|unsupported)(?: (?:on|in|for|with|by) \w+(?: model| request| endpoint)?)?"
        r"(?:, ?{noun})?:\W{{0,4}}{name}"
    ),
    # 'temperature' is not supported with this model; `top_p` is deprecated; seed: extra inputs are not permitted
    (
        r"{name}(?:(?:,(?: and| or)?| and| or) [`'\"]?\w+[`'\"]?){{0,4}}?"
        r"\W{{0,3}}(?: ?{noun})?\W?(?:is|are|was|has been| )(?: currently| no longer)? ?"
        r"(?:{nope}|unsupported|deprecated|disallowed|supported(?<=no longer supported)"
        r"|not an? (?:supported|valid|known|recogni[sz]ed|allowed) {noun}"
        r"|extra (?:inputs|fields) (?:are )?not (?:permitted|allowed))"
    ),
    # does not support the stopSequences field; does not support parameters: ['temperature', 'top_p']
    (
        r"(?:does not|doesn't|do not|don't)(?: currently| yet)? (?:support|accept|allow|recogni[sz]e|take)"
        r"(?: (?:the|setting|a|any|custom|using|use of))*(?: {noun})?\W{{0,4}}(?:[\[({{][^\])}}]{{0,200}}?)?{name}{any_value}"
    ),
    # 'temperature' does not support 0 with this model
    r"{name}\W{{1,3}}(?:does not|doesn't) support [^.;]{{0,60}}(?:with|for|in|on|by) (?:this|the) model",
    # only the default (1) value is supported; may only be set to 1
    r"{name}[^;]{{0,120}}(?:only the default|may only be set|can only be set)",
    # invalid temperature: only 1 is allowed for this model; only temperature=1 is supported
    r"{name}\W{{1,3}}only \d+(?:\.\d+)? (?:is|are) (?:allowed|supported|accepted)",
    r"only {name}\W{{1,3}}\d+(?:\.\d+)? is (?:allowed|supported|accepted)",
    r"{name}\W{{1,3}}cannot be (?:used|set|specified|modified|changed|combined)",
    # additional properties are not allowed ('seed' was unexpected)
    r"additional properties are not allowed \([^)]{{0,100}}{name}",
    # [{{'type': 'extra_forbidden', 'loc': ('body', 'seed'), ...
    r"extra_forbidden[^}}]{{0,60}}body\W{{1,6}}{name}\W{{0,2}}[)\]]",
)


def refused(error: ProviderError, sent: Mapping[str, Json], own: Collection[str]) -> str | None:
    """Return the parameter of a request that a refusal names as one that the model does not take; None if there is none.

    sent: the body of the request. own: names in it that are the user's own words, which are never returned.
    """
    if error.status not in _STATUSES or error.code not in _CODES:
        return None
    names = [name for name in LEARNABLE if name in sent and name not in own]
    if not names:
        return None
    message = str(error)
    if _is_about_a_value(error, message):
        return None
    found = next((pair for name in names if (pair := _named(error, name, message)) is not None), None)
    if found is None:
        found = _excluding(names, sent, message)
    if found is None:
        return None
    name, words = found
    # nothing but the provider's own words counts
    return None if words and says(sent, words) else name


def names_seed(error: ProviderError, sent: Mapping[str, Json]) -> bool:
    """Return True if a refusal names the seed, in whatever words: nobody has asked for the value of a seed that was made up.

    sent: the body of the request.
    """
    return _names(error, sent, SEED_NAMES, _SEED)


def names_tier(error: ProviderError, sent: Mapping[str, Json]) -> bool:
    """Return True if a refusal names the service tier, in whatever words. sent: the body of the request."""
    return _names(error, sent, ("service_tier",), _TIER)


def _names(error: ProviderError, sent: Mapping[str, Json], names: Collection[str], words: re.Pattern[str]) -> bool:
    """Return True if a refusal names a parameter. Where its texts have the words too, only the field for that counts."""
    if error.status not in _STATUSES or error.code not in _CODES:
        return False
    param = re.search(r"\w+$", error.param or "")
    if param is not None and snake(param[0]) in names:
        return True
    return words.search(str(error)) is not None and not any(map(words.search, _texts(sent)))


def says(sent: Mapping[str, Json], words: str) -> bool:
    """Return True if a request contains words, whatever stands between their letters."""
    return _bare(words) in _bare(" ".join(_texts(sent)))


def _is_about_a_value(error: ProviderError, message: str) -> bool:
    """Return True if a refusal says which values are taken: then the parameter is, and the row has to be mended."""
    code = snake(error.provider_code or "")
    return _OF_A_VALUE.search(message) is not None or _CODES_OF_A_VALUE.match(code) is not None


def _named(error: ProviderError, name: str, message: str) -> tuple[str, str] | None:
    """Return a name and the words that refuse it, if there are such words. Empty words: the provider has a field for that."""
    for pattern in _patterns(name):
        match = pattern.search(message)
        if match is not None:
            return name, match[0]
    other = OTHER_NAME.get(name)
    if other is not None and (match := re.search(rf"\buse\W{{1,3}}{other}\b", message, re.IGNORECASE)):
        return name, match[0]
    # stream_options.include_usage is a part of stream_options
    param = re.match(r"(?:body\.)?(\w+)", error.param or "")
    if param is None or snake(param[1]) != name:
        return None
    if error.provider_code is not None and snake(error.provider_code) in _NAMES:
        return name, ""
    match = _WORDS.search(message.partition(": ")[2] or message)
    if match is None or (_NUMBER.search(match[0]) and "only the default" not in match[0].lower()):
        return None
    return name, match[0]


def _excluding(names: list[str], sent: Mapping[str, Json], message: str) -> tuple[str, str] | None:
    """Read words such as: `temperature` and `top_p` cannot both be specified for this model."""
    if "temperature" not in sent or "top_p" not in sent or _EXCLUDED.search(message) is None:
        return None
    match = re.search(_PAIR, message, re.IGNORECASE)
    name = next((name for name in names if name in ("top_p", "temperature")), None)
    return (name, match[0]) if match is not None and name is not None else None


@cache
def _patterns(name: str) -> tuple[re.Pattern[str], ...]:
    first, *others = name.split("_")
    camel = first + "".join(word.title() for word in others)
    # not a part of something else, such as messages.0.stop
    quoted = rf"[`'\"\[({{]{{0,2}}(?:(?<=body\.)|(?<![\w.]))(?:{name}|{camel})\b[`'\"\])}}]{{0,2}}"
    return tuple(
        re.compile(pattern.format(name=quoted, noun=_NOUN, nope=_NOT, any_value=_SOME).replace(" ", r"\s"), re.IGNORECASE)
        for pattern in _PATTERNS
    )


def _bare(text: str) -> str:
    return "".join(char for char in text.lower() if char.isalnum())


def _texts(value: Json) -> Iterator[str]:
    """Yield every text in a decoded body."""
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, Mapping):
            stack += one.values()
        elif isinstance(one, list):
            stack += one


def shape(request: Request) -> Shape:
    """Return the model and what parameters a request sets: what is learned holds for requests like it.

    Many refusals depend on another parameter (top_p beside temperature, temperature while a row thinks). Rows without that one
    keep theirs.
    """
    params = request.params
    names = [name for name in _SETTINGS if getattr(params, name) is not None]
    names += ["seed"] if request.made_seed is not None else []
    own = (params.extra_body or {}).items()
    # not only whether a row thinks: the same name may say that it does not
    extra = [f"{name}={json_text(value)}" if "think" in name or "reason" in name else name for name, value in own]
    return request.model, frozenset((*names, *extra))


def without(request: Request, learned: Mapping[str, str | None]) -> Request:
    """Return a request without the parameters that its model refuses. learned: name -> other name, None to leave it out."""
    params = request.params
    own = params.extra_body or {}
    changes: dict[str, Json] = {}
    for name, other in learned.items():
        if other is None:
            changes[name] = None
        elif params.max_tokens is not None:
            changes |= {name: None, other: params.max_tokens}
    # a dialect of a plug-in may send a seed that was made up under any name
    made_seed = request.made_seed if learned.keys().isdisjoint(SEED_NAMES) else None
    # a null takes the name out of the body; what the user has put there stays
    params = structs.replace(params, extra_body={**changes, **own})
    return structs.replace(request, params=params, made_seed=made_seed)


def note(model: str, name: str, other: str | None, *, made_up: bool = False) -> str:
    """Return the sentence that tells a person what was learned. made_up: the user has not set the parameter."""
    if made_up:
        return f"{model} does not take {name}: further answers of a row are asked for without it"
    if other is not None:
        return f"{model} does not take {name}: it is sent as {other} from now on (--strict-params stops instead)"
    effect = "; the tokens of answers may be unknown" if name == "stream_options" else ""
    return f"{model} does not take {name}: it is left out from now on{effect} (--strict-params stops instead)"
