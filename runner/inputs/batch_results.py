"""Reads the results of batch APIs, which hold answers: those of OpenAI and Anthropic, and our own export in that format. Pure."""

from collections.abc import Collection, Mapping

from runner.inputs.own_names import ANSWER, NUMBER, added
from runner.model import SYSTEM_ROLES, Json, Params

SENT_OTHERWISE = ("model", "messages", "stream", "stream_options")
"""Fields of a request that the job or the run decides, or that have a field of their own in a row."""
_PARAMS = tuple(name for name in Params.__struct_fields__ if name != "extra_body")
_RESULTS = ("response", "error", "result")
_ANSWERED = 200


def is_result(line: Mapping[str, Json]) -> bool:
    """Return True for a line with the result of a request, and not only the request."""
    return "custom_id" in line and any(name in line for name in _RESULTS)


def is_ours(line: Mapping[str, Json]) -> bool:
    """Return True for a line that our export has written."""
    return is_result(line) and "request" in line and "fields" in line


def asked_in(line: Mapping[str, Json]) -> list[Json] | None:
    """Return the messages of the request that our export keeps beside its result; None if there are none."""
    messages = _at(line, "request", "body", "messages")
    return messages if isinstance(messages, list) else None


def params_in(line: Mapping[str, Json]) -> dict[str, Json]:
    """Return what else that request asks for, but for the model and a seed that was made up, as the ``params`` of a row."""
    body = _at(line, "request", "body")
    given = {name: value for name, value in body.items() if name not in SENT_OTHERWISE} if isinstance(body, dict) else {}
    if line.get("made_seed") is not None and given.get("seed") == line["made_seed"]:
        del given["seed"]
    params = {name: given.pop(name) for name in _PARAMS if name in given}
    return {**params, "extra_body": given} if given else params


def fields_of(line: Mapping[str, Json], asked: Collection[str] | None) -> dict[str, Json]:
    """Return the fields of the row of a result: its id, those that it came with, what it asked, and ``answer`` or ``error``.

    asked: fields that the template names. None: the row asks the same again, so its prompt is that of the request.
    """
    own = line.get("fields")
    others = ("id", "prompt", "messages") if asked is None else ("id",)
    fields = {name: value for name, value in own.items() if name not in others} if isinstance(own, dict) else {}
    for name, value in _request(asked_in(line), again=asked is None).items():
        fields.setdefault(name, value)
    number = {} if line.get(NUMBER) is None else {NUMBER: line[NUMBER]}
    answer = _answer(line)
    ours = {ANSWER: answer} if answer is not None else _error(line)
    return {"id": line.get("custom_id"), **added(fields, {**ours, **number})}


def _request(messages: list[Json] | None, *, again: bool) -> dict[str, Json]:
    """Return a prompt of one text as ``prompt``, also where a system text is before it, and other messages as they are.

    again: without a template only one of the two may be there, and nothing may be left out.
    """
    if messages is None:
        return {}
    others = [one for one in messages if not (isinstance(one, dict) and one.get("role") in SYSTEM_ROLES)]
    match others:
        case [{"role": "user", "content": str() as text, **more}] if not more and not (again and len(messages) > 1):
            return {"prompt": text} if again or len(messages) == 1 else {"prompt": text, "messages": messages}
    return {"messages": messages}


def _answer(line: Mapping[str, Json]) -> Json:
    """Return the text of the answer, empty for one without text; None if there is no answer."""
    if _at(line, "result", "type") == "succeeded":
        return _text(_at(line, "result", "message", "content"))
    body = _at(line, "response", "body")
    if line.get("error") is not None or not isinstance(body, dict) or body.get("error") is not None:
        return None
    if (_at(line, "response", "status_code") or _ANSWERED) != _ANSWERED:
        return None
    match body:
        case {"choices": [{"message": {"content": content}}, *_]}:
            return _text(content)
        case {"choices": [{"message": dict()}, *_]}:
            return ""
        case {"choices": [{"text": content}, *_]}:
            return _text(content)
        case {"output": list() as output}:
            # the Responses API
            return "".join(_text(one.get("content")) for one in output if isinstance(one, dict) and one.get("type") == "message")
    return None


def _text(content: Json) -> str:
    """Return the text of a content: a text, or parts with texts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(text for part in parts if isinstance(part, dict) and isinstance(text := part.get("text"), str))


def _error(line: Mapping[str, Json]) -> dict[str, Json]:
    """Return why there is no answer, as the export calls it: ``error_code`` and ``error``."""
    ways = (("error",), ("response", "body", "error"), ("result", "error", "error"), ("result", "error"))
    found = next((error for way in ways if isinstance(error := _at(line, *way), dict)), {})
    status = _at(line, "response", "status_code")
    refused = status if status != _ANSWERED else None
    code = found.get("code") or found.get("type") or _at(line, "result", "type") or refused
    return {"error_code": code, "error": found.get("message")}


def _at(value: Json, *way: str) -> Json:
    for name in way:
        value = value.get(name) if isinstance(value, dict) else None
    return value
