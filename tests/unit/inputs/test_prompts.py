"""Keys of rows, and the request made from a row."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import BAD_ROW
from runner.inputs import prompts
from runner.inputs.keys import ROW_SETTINGS, asks_the_same, base_key
from runner.inputs.prompts import Template, make_item
from runner.inputs.template import Texts
from runner.media import MEDIA_FIELDS
from runner.model import Item, Outcome, Params, Row

PARAMS = Params(max_tokens=10, temperature=0.5, stop=["END"])
TEMPLATE = Template(model="m", system="Be brief.", params=PARAMS, keep_rows=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAMES = TEXT.filter(lambda name: name not in ("id", "prompt", "messages", "params", *ROW_SETTINGS, *MEDIA_FIELDS))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.dictionaries(NAMES, VALUES, max_size=4)


def a_row(line: int = 1, /, **fields: Any) -> Row:
    return Row(line=line, fields=fields)


def read(line: str) -> Row:
    return Row(line=1, fields=json.loads(line))


def an_item(**fields: Any) -> Item:
    made = make_item(a_row(**fields), "key", TEMPLATE)
    assert isinstance(made, Item), made
    return made


def a_fault(**fields: Any) -> str:
    made = make_item(a_row(7, **fields), "key", TEMPLATE)
    assert isinstance(made, Outcome), made
    assert (made.key, made.position, made.status, made.error_code) == ("key", 7, "failed", BAD_ROW)
    assert (made.attempt, made.attempts, made.completion) == (None, 0, None)
    assert made.error is not None
    assert made.error.startswith("line 7: ")
    return made.error


def turned(value: Any) -> Any:
    """Return the value with the fields of every object in the opposite order."""
    if isinstance(value, dict):
        return {name: turned(value[name]) for name in reversed(value)}
    return [turned(one) for one in value] if isinstance(value, list) else value


def test_an_id_of_its_own_is_the_key() -> None:
    assert base_key(a_row(id="a b/ü", prompt="x")) == ("a b/ü", True)
    assert base_key(a_row(id=17, prompt="x")) == ("17", True)
    assert base_key(a_row(id=0)) == ("0", True)
    assert base_key(a_row(id=-3)) == ("-3", True)


@pytest.mark.parametrize("own", [None, "", True, False, 1.5, [], {}, ["a"]])
def test_what_is_no_id_leaves_the_hash(own: Any) -> None:
    key, is_own = base_key(a_row(id=own, prompt="x"))
    assert key.startswith("row-")
    assert not is_own


def test_the_hash_knows_neither_line_nor_spacing_nor_order() -> None:
    keys = {
        base_key(read('{"prompt":"x","lang":{"a":1,"b":2}}')),
        base_key(read(' { "lang" : { "b" : 2 , "a" : 1 } , "prompt" : "\\u0078" } ')),
        base_key(Row(line=99, fields={"prompt": "x", "lang": {"a": 1, "b": 2}})),
    }
    assert len(keys) == 1


@given(FIELDS)
def test_any_row_has_the_same_hash_in_any_order(fields: dict[str, Any]) -> None:
    key = base_key(Row(line=1, fields=fields))
    assert key == base_key(Row(line=5, fields=turned(fields)))
    assert key == base_key(read(json.dumps(fields, indent=3)))


@given(FIELDS, FIELDS)
def test_different_rows_have_different_hashes(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (base_key(Row(line=1, fields=one)) == base_key(Row(line=1, fields=other))) == same


def test_every_field_counts_for_the_hash() -> None:
    rows = [a_row(prompt="x"), a_row(prompt="y"), a_row(prompt="x", n=1), a_row(prompt="x", n="1"), a_row(prompt="x", n=None)]
    assert len({base_key(row) for row in rows}) == len(rows)


def test_a_broken_row_is_known_by_its_bytes() -> None:
    def broken(raw: bytes, line: int = 1) -> tuple[str, bool]:
        return base_key(Row(line=line, fields=None, fault="not JSON", raw=raw))

    assert broken(b"{oops") == broken(b"{oops", 8)
    assert broken(b"{oops")[0] != broken(b"{oops ")[0]
    assert not broken(b"")[1]


def test_a_prompt_becomes_one_message_of_the_user() -> None:
    made = an_item(prompt=" hello ")
    assert made.request.messages == ({"role": "user", "content": " hello "},)
    assert (made.request.model, made.request.system, made.request.params) == ("m", "Be brief.", TEMPLATE.params)
    assert (made.key, made.position, made.attempts_before) == ("key", 1, 0)


def test_messages_are_taken_as_they_are() -> None:
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "t"}], "name": "n"},
        {"role": "assistant", "tool_calls": []},
    ]
    assert an_item(messages=messages).request.messages == tuple(messages)
    assert an_item(messages=messages, prompt=None).request.messages == tuple(messages)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "no prompt and no messages"),
        ({"prompt": "x", "messages": [{"role": "user", "content": "y"}]}, "both prompt and messages are set"),
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": " \n\t\u3000"}, "the prompt is empty"),
        ({"prompt": 3}, "the prompt must be a string"),
        ({"prompt": ["x"]}, "the prompt must be a string"),
        ({"prompt": False}, "the prompt must be a string"),
        ({"messages": []}, "at least one message"),
        ({"messages": {}}, "messages must be a list"),
        ({"messages": "x"}, "messages must be a list"),
        ({"messages": ["x"]}, "an object with a role"),
        ({"messages": [{"content": "x"}]}, "an object with a role"),
        ({"messages": [{"role": 1, "content": "x"}]}, "an object with a role"),
        ({"prompt": "x", "id": ""}, "the id is empty"),
        ({"prompt": "x", "id": 1.5}, "the id must be"),
        ({"prompt": "x", "id": True}, "the id must be"),
        ({"prompt": "x", "id": ["a"]}, "the id must be"),
        ({"prompt": "x", "id": {}}, "the id must be"),
        ({"prompt": "x", "params": []}, "params must be an object"),
        ({"prompt": "x", "params": 3}, "params must be an object"),
    ],
)
def test_rows_of_which_no_request_can_be_made(fields: dict[str, Any], why: str) -> None:
    assert why in a_fault(**fields)


def test_a_misspelt_field_is_named() -> None:
    assert "('promt': did you mean 'prompt'?)" in a_fault(promt="x")
    assert "('message': did you mean 'messages'?)" in a_fault(message=[])


@pytest.mark.parametrize("name", ["prompt", "messages"])
def test_a_field_that_is_null_is_not_taken_for_misspelt(name: str) -> None:
    assert "did you mean" not in a_fault(**{name: None})


def test_a_row_that_the_reader_could_not_read() -> None:
    made = make_item(Row(line=4, fields=None, fault="not JSON: x", raw=b"{"), "row-1", TEMPLATE)
    assert isinstance(made, Outcome)
    assert (made.error_code, made.error, made.metadata, made.position) == (BAD_ROW, "line 4: not JSON: x", {}, 4)


def test_a_broken_row_keeps_its_metadata() -> None:
    made = make_item(a_row(prompt="", lang="en", id=5), "5", TEMPLATE)
    assert isinstance(made, Outcome)
    assert made.metadata == {"lang": "en", "id": 5}


OVERRIDES: dict[str, Any] = {
    "max_tokens": 99, "temperature": 1.5, "top_p": 0.25, "stop": ["A", "B"], "seed": 7, "extra_body": {"k": [1]},
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(OVERRIDES))
def test_a_row_overrides_one_parameter_and_leaves_the_others(name: str) -> None:
    params = an_item(prompt="x", params={name: OVERRIDES[name]}).request.params
    for other in Params.__struct_fields__:
        expected = OVERRIDES[name] if other == name else getattr(TEMPLATE.params, other)
        assert getattr(params, other) == expected


def test_a_row_overrides_the_model() -> None:
    made = an_item(prompt="x", params={"model": "other"})
    assert (made.request.model, made.request.params) == ("other", TEMPLATE.params)


def test_params_that_are_null_or_empty_change_nothing() -> None:
    for params in (None, {}, {"temperature": None, "model": None}):
        assert an_item(prompt="x", params=params).request == an_item(prompt="x").request


def test_zero_is_an_override() -> None:
    assert an_item(prompt="x", params={"temperature": 0}).request.params.temperature == 0


def test_unknown_parameters_are_refused_with_the_nearest_right_name() -> None:
    assert "unknown parameter 'max_token' in params; did you mean 'max_tokens'?" in a_fault(prompt="x", params={"max_token": 3})
    assert "unknown parameter 'qqqqqqq' in params; available: model, max_tokens" in a_fault(prompt="x", params={"qqqqqqq": 3})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", 3),
        ("max_tokens", "10"),
        ("max_tokens", 1.5),
        ("max_tokens", True),
        ("temperature", "hot"),
        ("top_p", []),
        ("stop", 3),
        ("stop", [3]),
        ("seed", 1.5),
        ("extra_body", []),
    ],
)
def test_parameters_of_the_wrong_kind_are_refused_by_name(name: str, value: Any) -> None:
    assert name in a_fault(prompt="x", params={name: value})


# -- settings beside the prompt

BESIDE: dict[str, Any] = {**OVERRIDES, "model": "other", "system": "Be long."}


def asked(item: Item, name: str) -> Any:
    request = item.request
    return getattr(request, name) if name in ("model", "system") else getattr(request.params, name)


@pytest.mark.parametrize("name", sorted(BESIDE))
def test_a_setting_beside_the_prompt_is_used_and_stays_among_the_metadata(name: str) -> None:
    made = an_item(prompt="x", **{name: BESIDE[name]})
    plain = an_item(prompt="x")
    for other in BESIDE:
        assert asked(made, other) == (BESIDE[name] if other == name else asked(plain, other))
    assert made.metadata == {name: BESIDE[name]}
    assert made.fingerprint != plain.fingerprint
    assert made.fingerprint != an_item(prompt="x", **{name: OTHER_VALUES[name]}).fingerprint


OTHER_VALUES: dict[str, Any] = {
    "max_tokens": 98, "temperature": 1.25, "top_p": 0.5, "stop": "A", "seed": 8, "extra_body": {"k": 2}, "model": "third",
    "system": "Be kind.",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(BESIDE))
def test_a_setting_that_is_null_changes_nothing(name: str) -> None:
    made = an_item(prompt="x", **{name: None})
    assert (made.request, made.fingerprint) == (an_item(prompt="x").request, an_item(prompt="x").fingerprint)
    assert made.metadata == {name: None}


@pytest.mark.parametrize("name", sorted(OVERRIDES))
def test_a_setting_in_both_places_must_be_the_same(name: str) -> None:
    both = an_item(prompt="x", params={name: OVERRIDES[name]}, **{name: OVERRIDES[name]})
    assert asked(both, name) == OVERRIDES[name]
    assert an_item(prompt="x", params={name: None}, **{name: OVERRIDES[name]}).request == both.request
    fault = a_fault(prompt="x", params={name: OVERRIDES[name]}, **{name: OTHER_VALUES[name]})
    assert fault == f"line 7: {name} and params.{name} are different; keep one of them"


def test_a_whole_float_is_no_clash() -> None:
    made = an_item(prompt="x", params={"max_tokens": 50, "temperature": 1}, max_tokens=50.0, temperature=1.0)
    assert (made.request.params.max_tokens, made.request.params.temperature) == (50, 1.0)


def test_settings_in_different_places_are_joined() -> None:
    made = an_item(prompt="x", params={"seed": 3}, temperature=0)
    assert (made.request.params.seed, made.request.params.temperature, made.request.params.max_tokens) == (3, 0.0, 10)


def test_system_beside_messages() -> None:
    asked_, told = {"role": "user", "content": "q"}, {"role": "system", "content": "s"}
    assert an_item(messages=[asked_], system="s").request.system == "s"
    assert an_item(messages=[told, asked_], system="s").request.messages == (told, asked_)
    for role in ("system", "developer"):
        fault = a_fault(messages=[{"role": role, "content": "other"}, asked_], system="s")
        assert "both system and a system message are set" in fault
    assert "both system" in a_fault(messages=[told, told, asked_], system="s")
    assert an_item(prompt="x", system="").request.system == ""
    assert "system stands beside params" in a_fault(prompt="x", params={"system": "s"})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("temperature", "hot", 'temperature must be a number, not "hot"'),
        ("temperature", True, "temperature must be a number, not true"),
        ("top_p", [], "top_p must be a number, not []"),
        ("max_tokens", 0, "max_tokens must be a whole number of 1 or more, not 0"),
        ("max_tokens", 1.5, "max_tokens must be a whole number of 1 or more, not 1.5"),
        ("seed", "7", 'seed must be a whole number, not "7"'),
        ("stop", [1], "stop must be a text or a list of texts, not [1]"),
        ("stop", [], "stop must be a text or a list of texts, not []"),
        ("model", 3, "model must be the name of a model, not 3"),
        ("model", " ", 'model must be the name of a model, not " "'),
        ("system", ["s"], 'system must be a text, not ["s"]'),
        ("extra_body", "x" * 100, "extra_body must be an object, not "),
    ],
)
def test_a_setting_of_the_wrong_kind_says_so(name: str, value: Any, words: str) -> None:
    fault = a_fault(prompt="x", **{name: value})
    assert words in fault
    assert fault.endswith("; row_settings = false makes it plain data")
    assert len(fault) < 200
    if name != "system":
        assert f"params.{words}" in a_fault(prompt="x", params={name: value})


def test_fields_that_are_plain_data_are_no_settings() -> None:
    fields = {"prompt": "x", "model": "Golf", "temperature": "hot", "system": 3}
    made = make_item(Row(line=1, fields=fields, plain=True), "key", TEMPLATE)
    assert isinstance(made, Item)
    assert (made.request, made.fingerprint) == (an_item(prompt="x").request, an_item(prompt="x").fingerprint)
    assert made.metadata == {"model": "Golf", "temperature": "hot", "system": 3}


def test_a_file_written_again_with_whole_floats_is_not_changed() -> None:
    assert an_item(prompt="x", seed=7, max_tokens=5).fingerprint == an_item(prompt="x", seed=7.0, max_tokens=5.0).fingerprint


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ({"max_tokens": 50}, {"max_tokens": 50.0}, True),
        ({"max_tokens": 50.0}, {"max_tokens": 50}, True),
        ({"temperature": 1, "seed": 3}, {"temperature": 1.0, "seed": 3.0}, True),
        ({"max_tokens": 50}, {"max_tokens": 50, "seed": None}, True),
        (None, {"seed": None}, True),
        ({"max_tokens": 50}, {"max_tokens": 51}, False),
        ({"max_tokens": 50}, {"max_tokens": 50.5}, False),
        ({"max_tokens": 50}, {}, False),
        ({"max_tokens": 50}, None, False),
    ],
)
def test_numbers_in_params_that_another_program_has_written(before: Any, after: Any, same: bool) -> None:
    stored = an_item(prompt="x", **({"params": before} if before is not None else {})).fingerprint
    now = a_row(prompt="x", **({"params": after} if after is not None else {}))
    assert asks_the_same(now, stored) == same
    assert not asks_the_same(a_row(prompt="y", params=after), stored)


# -- whole floats


def test_an_id_that_is_a_whole_float_is_that_number() -> None:
    assert base_key(a_row(id=1.0, prompt="x")) == base_key(a_row(id=1)) == ("1", True)
    assert base_key(a_row(id=-0.0, prompt="x")) == ("0", True)
    assert an_item(id=1.0, prompt="x").metadata == {"id": 1}
    assert type(an_item(id=1.0, prompt="x").metadata["id"]) is int
    for own in (1.5, 1e300, 2.0**60):
        assert not base_key(a_row(id=own, prompt="x"))[1]
        assert "the id must be a string or a whole number" in a_fault(id=own, prompt="x")
    assert a_fault(id="", prompt="x") == "line 7: the id is empty"


def test_whole_floats_are_whole_numbers() -> None:
    params = an_item(prompt="x", params={"max_tokens": 50.0, "seed": 7.0}).request.params
    assert (params.max_tokens, params.seed) == (50, 7)
    assert (type(params.max_tokens), type(params.seed)) == (int, int)


def test_a_broken_row_with_an_id_is_known_by_it() -> None:
    broken = Row(line=3, fields={"id": 7}, fault="not JSON: x", raw=b"{")
    assert base_key(broken) == ("7", True)
    made = make_item(broken, "7", TEMPLATE)
    assert isinstance(made, Outcome)
    assert (made.error, made.metadata) == ("line 3: not JSON: x", {"id": 7})


@given(FIELDS)
def test_further_fields_are_kept_as_they_are(fields: dict[str, Any]) -> None:
    assert an_item(prompt="x", params={}, **fields).metadata == fields


def test_an_id_that_is_no_text_stays_among_the_metadata() -> None:
    assert an_item(id=17, prompt="x", lang="en").metadata == {"id": 17, "lang": "en"}
    assert an_item(id="17", prompt="x").metadata == {}
    assert an_item(id=None, prompt="x").metadata == {}


@given(FIELDS, FIELDS)
def test_the_fingerprint_does_not_look_at_metadata(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert an_item(prompt="x", **one).fingerprint == an_item(prompt="x", **other).fingerprint


@given(TEXT.filter(str.strip), TEXT.filter(str.strip))
def test_the_fingerprint_tells_prompts_apart(one: str, other: str) -> None:
    assert (an_item(prompt=one).fingerprint == an_item(prompt=other).fingerprint) == (one == other)


def test_the_fingerprint_looks_at_all_that_is_asked() -> None:
    asked: list[dict[str, Any]] = [
        {"prompt": "x"},
        {"prompt": "x", "params": {"seed": 1}},
        {"prompt": "x", "params": {"seed": 2}},
        {"messages": [{"role": "user", "content": "x"}]},
        {"messages": [{"role": "system", "content": "x"}]},
    ]
    prints = {an_item(**fields).fingerprint for fields in asked}
    assert len(prints) == len(asked)
    assert all(-(2**63) <= one < 2**63 for one in prints)


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    """Fingerprints are stored, so they must not contain a salted hash; a new formula would make every stored row look changed."""
    assert an_item(prompt="x").fingerprint == an_item(id="other", prompt="x").fingerprint == -1403820291804325407
    assert base_key(a_row(prompt="x")) == ("row-f83c145331955c1293ef", False)


# -- what is stored of a row


def test_a_row_is_stored_whole() -> None:
    fields = {"id": 7, "topic": "x", "prompt": "p", "params": {"seed": 1}, "model": "other"}
    made = make_item(a_row(**fields), "7", Template(model="m", system=None, params=Params()))
    assert made.metadata == fields
    assert make_item(a_row(**fields), "7", TEMPLATE).metadata == {"id": 7, "topic": "x", "model": "other"}
    # an id that is a text is the key
    assert "id" not in make_item(a_row(id="a", prompt="p"), "a", Template(model="m", system=None, params=Params())).metadata


@pytest.mark.parametrize(
    ("stored", "expected", "own"),
    [
        ({"topic": "x", "prompt": "p", "params": {}}, "p", {"topic": "x"}),
        ({"messages": [{"role": "user", "content": "m"}]}, "m", {}),
        ({"messages": [{"role": "user", "content": "m", "name": "n"}]}, [{"role": "user", "content": "m", "name": "n"}], {}),
        ({"messages": [{"role": "system", "content": "m"}]}, [{"role": "system", "content": "m"}], {}),
        ({"topic": "x"}, None, {"topic": "x"}),
    ],
)
def test_what_a_stored_row_asked(stored: dict[str, Any], expected: Any, own: dict[str, Any]) -> None:
    assert (prompts.asked(stored, None), stored) == (expected, own)


def test_what_a_stored_row_asked_by_a_template() -> None:
    texts = Texts(prompt="Say {{ text }}", messages=None, system=None)
    fields = {"text": "x", "prompt": "mine", "params": {"seed": 1}}
    assert (prompts.asked(fields, texts), fields) == ("Say x", {"text": "x", "prompt": "mine"})
    assert prompts.asked({"topic": "x"}, texts) is None
