"""The sentences of providers, by what they mean. Patterns only; ``rules`` says what each leads to.

One rule: what a row itself says decides nothing for the run. A sentence in quotation marks, or behind words such as "invalid
value", may be one of the prompt.
"""

import re

# a quotation mark inside a word is an apostrophe. An object, and what its field "message" holds, is no quotation: gateways pass
# errors on like that
_QUOTED = re.compile(
    r"(?<![\w'\"])(?<!message['\"]:)(?<!message['\"]: )b?(?:'(?!\{)(?:(?!'(?!\w)).){1,4096}(?:'|$)"
    r'|"(?!\{)(?:(?!"(?!\w)).){1,4096}(?:"|$)|`[^`]{1,4096}(?:`|$))|“[^”]{1,4096}(?:”|$)|«[^»]{1,4096}(?:»|$)|「[^」]{1,4096}(?:」|$)',
    re.DOTALL,
)
OF_A_PART = re.compile(
    r"messages?(?:\[|\.\d)|\.content\b|\bschema\b|\bdownload"
    r"|\b(?:invalid|unsupported|unexpected|malformed|illegal) (?:value|type|json|character|unicode|utf|prompt|content|input"
    r"|message|string|text|tool)"
    r"|\b(?:user|customer|prompt|message|content|text|input|row) (?:wrote|writes|said|says?|contains?|reads?|includes?"
    r"|mentions?)\b",
    re.IGNORECASE,
)
"""Words before a sentence which show that it may be quoted from the request."""
# the name of a field, where ``spoken`` has taken it out
_FIELD = re.compile(r"''\s*:\s*['\"]?")
_HEADS = ("error", "exception", "message", "code")
OVER_THE_LIMIT = re.compile(r"\blimit:? (\d[\d,]*)[^.]{0,60}?\brequested:? (\d[\d,]*)", re.IGNORECASE)
"""The numbers of a limit per minute or day, and of one request."""


def spoken(message: str) -> str:
    """Return a message without its quotations. A message that is one quotation as a whole is none."""
    return _QUOTED.sub("''", message.strip("'\"` \n"))


def certain(before: str) -> bool:
    """Return True if a sentence is the provider's own by what stands before it: names of errors, or "Your team has"."""
    before = _FIELD.split(before)[-1]
    words = before.lower().split()
    while words and (any(head in words[0] for head in _HEADS) or not any(map(str.isalpha, words[0]))):
        del words[0]
    if not words:
        return True
    if words[0] in ("this", "your", "you", "the"):
        return len(words) < 10 and not any(mark in " ".join(words) for mark in ":;,")
    # the beginning of the word in which the sentence begins: some languages have no spaces
    return len(words) == 1 and not before[-1].isspace() and len(words[0]) <= 8


def never_fits(message: str) -> bool | None:
    """Return True if a request asks for more than the whole limit of a minute; None if the message has no such numbers."""
    found = OVER_THE_LIMIT.search(message)
    return int(found[2].replace(",", "")) > int(found[1].replace(",", "")) if found else None


# whole sentences of the providers only: a word such as "quota" may mean a limit per minute
MONEY = (
    r"credit balance is too low|reached your specified (?:\w+ ){0,2}usage limits|billing hard limit has been reached"
    r"|insufficient (?:account )?(?:balance|credits?|funds)\b(?! of (?!your|the account))"
    r"|(?:account )?balance (?:is )?(?:insufficient|not enough|too low)"
    r"|(?:not enough|out of|no more|requires more|have any) (?:credits|funds)\b|monthly included credits"
    r"|account is (?:overdue|in arrears)|used all (?:your |its )?available credits|credits are (?:depleted|exhausted)"
    r"|\bkey limit exceeded|\b(?:credit|spend(?:ing)?) limit (?:has been |was )?(?:exceeded|reached)|\bbudget has been exceeded"
    r"|requires billing to be enabled|余额不足|欠费"
)
ACCOUNT = (
    r"(?:your|this) (?:account|access|organi[sz]ation|project) (?:is|has been|was) (?:\w+ )?"
    r"(?:suspended|terminated|deactivated|disabled|banned)|user location is not supported"
    r"|country, region, or territory not supported|has not been used in project \S+ before or it is disabled"
)
CONTENT = (
    r"content (?:management )?policy|content filter|content moderation|inappropriate content|harmful content|safety system"
    r"|safety[ _]check|(?:prohibited|sensitive) content|敏感|\bmoderation\b|guardrail"
    # not any policy: a firewall speaks of its own, and refuses every row by it
    r"|(?:usage|acceptable use|safety|community) (?:polic|guideline|standard)"
    r"|\b(?:content|input|prompt|message|request|response|output|image|text)s? (?:\w+ ){0,4}(?:flagged|violat\w+)\b"
)
_MEDIA = r"(?:image|file|document|audio|video|media|attachment|pdf)s?\b"
PART_NOT_FOUND = (
    rf"\b(?:unable to|failed to|could not|couldn't|cannot|can't|error|failed|while|when) "
    rf"(?:download|fetch|retriev|load|access|process)(?:e|ing)? (?:\w+ ){{0,3}}{_MEDIA}"
    rf"|\b{_MEDIA} (?:at |with (?:id|url) |from )?(?:['\"`][^'\"`]*['\"`]|https?://\S+|\w[^\s/]*\.\w+)"
    r" (?:was |is |could be |could )?not (?:be )?found"
)
API_KEY = (
    r"(?:incorrect|invalid|wrong|expired|missing|malformed|unknown) (?:x-)?api[ _-]?key"
    r"|\bapi[ _-]?key (?:provided )?(?:'' )?(?:is |was |has |has been |is missing or )?(?:not valid|invalid|incorrect|expired"
    r"|missing|not found|revoked|disabled|deleted|reported as leaked|blocked)"
)
KEY = (
    rf"(?:{API_KEY}"
    r"|\bno (?:api[ _-]?key|auth(?:entication|orization)?(?: header| credentials)?|credentials) (?:found|provided|given|supplied)"
    r"|\bmissing (?:authentication|authorization|auth|bearer token)|did ?n[o']t provide an api key"
    r"|could not (?:validate|resolve) (?:authentication|credentials)|\bnot authenticated|authentication (?:failed|fails|required)"
    r"|invalid (?:authentication|authorization|credentials)|carry the api secret key|\bunregistered callers"
    r"|^\W*(?:your |the )?(?:invalid|expired) (?:access |auth |authentication |bearer |security |api )?token\W*$"
    r"|\b(?:access|auth|authentication|bearer|security|api) token (?:included in the request )?(?:is |has |has been )?"
    r"(?:invalid|not valid|expired|revoked)"
    r"|^\W*(?:your |the )?token (?:is |has |has been )?(?:invalid|not valid|expired|revoked)(?: or \w+)?\W*(?:$|[.,;])"
    r"|^\W*unauthori[sz]ed\W*$|无效的令牌|令牌(?:已过期|无效)|无效的 ?api ?key)"
)
NO_ROUTE = (
    r"unexpected endpoint or method|^\W*(?:404:? )?(?:(?:page|route|endpoint|path|url|resource) )?not found\W*$"
    r"|no route (?:matched|found)|cannot post /|invalid url \(|unknown (?:endpoint|url|path|route|request url)"
    r"|\bmethod not allowed\b|no such (?:route|endpoint)"
)
NO_MODEL = (
    r"^\W*(?:the |requested )*model (?:[^.:]{0,80} )?(?:does not|doesn't|not) exist\b"
    r"|^\W*(?:the |requested )*model \S+ (?:\w+ ){0,3}decommissioned|^\S+ is not a valid model\b|^\W*invalid model\b"
    r"|\bhave access to (?:the )?model\b"
)
CONTEXT = (
    r"^(?![\s\S]*(?:please wait|try again in|\bper (?:second|min(?:ute)?|hour|day)\b))[\s\S]*(?:"
    r"prompt is too long|input is too long|maximum context length|context (?:length|window|limit|size)"
    r"|too many (?:input )?tokens\b|reduce the length of the (?:messages|prompt|input)"
    r"|longer than the maximum (?:model|prompt) length"
    r"|exceeds the maximum number of tokens|maximum prompt length|tokens \+ \W?max_new_tokens\W? must be"
    r"|prompt token count of \d+ exceeds|range of input length should be)"
)
TOO_LARGE = r"^\W*request too large for\b|input or output tokens must be reduced|reduce your message size"
THROTTLED = (
    r"^\W*(?:too many (?:concurrent )?(?:requests|connections)|rate exceeded|(?:\w+ ){0,3}(?:was|is|is getting|being) throttled)"
    r"|\brate[ -]limit (?:has been |was )?(?:reached|exceeded|hit)|\b(?:is|are|being|been|temporarily) rate[ -]limited"
    r"|\b(?:exceed(?:s|ed)?|reached|hit) (?:\S+ ){0,4}rate[ -]limit"
    r"|\btoo many (?:input |output )?tokens(?: per|,? please)"
    r"|\b(?:limit|quota|exceed\w*)\b[^.]{0,60} (?:tokens?|requests?) per (?:second|min(?:ute)?|hour|day)\b"
    r"|请求过于频繁|并发数过高|速率限制|频率限制"
)
