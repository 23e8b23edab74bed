"""Writes a job file for an input that was looked at. A setting that is off is a line behind ``#``, valid as it stands. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from runner import origin
from runner.config.settings import BY_NAME, SETTINGS
from runner.model import Json
from runner.session.proposal import expression
from runner.session.survey import Column, Survey
from runner.text import clean, columns_of, escaped, plural

_MOST_COLUMNS = 40
_MOST_NAMES = 3
_NAME, _EXAMPLE = 30, 50
"""Columns of a terminal that a name and an example take, at most."""
_MODELS = {"openai": "gpt-5-mini", "anthropic": "claude-sonnet-5"}
"""A model of each provider, as an example."""
_DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar", " ": "a blank"}
_COUNTED = {"counted": "", "estimated": "about ", "more": "more than "}


class Draft:
    """The lines of a job file.

    given: settings that the user has named, which are written as they are. keys: the variables of the environment that hold an
    API key, by provider. variables: other variables that are set and win over the file.
    """

    def __init__(
        self,
        survey: Survey,
        input_name: str | list[str],
        given: Mapping[str, Json],
        keys: Mapping[str, str],
        variables: Sequence[str],
    ) -> None:
        self._survey, self._input, self._given = survey, input_name, given
        self._keys, self._variables = keys, variables

    def text(self, commands: Sequence[tuple[str, str]]) -> str:
        """Return the file. commands: what may be typed next, and what it does."""
        parts = (self._head(commands), self._asked(), self._model(), self._rows(), self._pace(), self._params())
        return "\n".join(line for part in parts for line in part)

    def _line(self, name: str, example: Json = None) -> str:
        """Return a setting: as it was given, or turned off with an example, which by default is its default."""
        setting = BY_NAME[name]
        key = setting.key.rpartition(".")[2]
        if name in self._given:
            return f"{key} = {toml(self._given[name])}"
        return f"#{key} = {toml(setting.default if example is None else example)}"

    def _on(self, name: str, value: Json) -> str:
        """Return a setting that is on, as it was given or with this value."""
        return f"{name} = {toml(self._given.get(name, value))}"

    def _head(self, commands: Sequence[tuple[str, str]]) -> Iterator[str]:
        seen, file = self._survey, clean(self._called())
        yield f"# Job file for {file}, written by `runner init`: what to ask, whom, and how fast."
        yield "# A setting behind a # is off; take the # away to use it. `runner run --help` lists all settings."
        yield "#"
        width = max(columns_of(command) for command, _ in commands)
        for command, words in commands:
            yield f"#   {_padded(command, width)}   {words}"
        yield ""
        yield f"# {file}: {_told(seen)}"
        yield from (f"# {sentence}" for sentence in map(clean, seen.about))
        if seen.broken:
            yield f"# {plural(seen.broken, 'row')} of the {seen.read:,} that were read cannot be used; `runner check` names them."
        yield "#"
        yield from self._columns()
        yield f"input = {toml(self._input)}"
        for name in ("input_format", "encoding", "delimiter", "sheet"):
            if name in self._given:
                yield self._line(name)
            elif name == "encoding" and seen.options.encoding not in (None, "utf-8-sig"):
                yield self._line(name, seen.options.encoding)
        yield ""

    def _called(self) -> str:
        """Return the name of the input in a sentence."""
        if not isinstance(self._input, list):
            return self._survey.path.name
        return ", ".join([*self._input[:_MOST_NAMES], *(["..."] if len(self._input) > _MOST_NAMES else [])])

    def _columns(self) -> Iterator[str]:
        seen = self._survey.columns
        shown = seen[:_MOST_COLUMNS]
        heads = ("column", "typical length", "an example")
        cells = [heads, *((clean(one.name, _NAME), _length(one), clean(one.example, _EXAMPLE)) for one in shown)]
        widths = [max(columns_of(row[place]) for row in cells) for place in range(2)]
        for name, length, example in cells:
            yield f"#   {_padded(name, widths[0])}   {_padded(length, widths[1])}   {example}".rstrip()
        if len(seen) > len(shown):
            yield f"#   and {plural(len(seen) - len(shown), 'column')} more"

    def _asked(self) -> Iterator[str]:
        seen, given = self._survey, self._given
        if seen.has_prompt and "prompt" not in given:
            yield "# Each row has its own prompt. A template here would replace it."
            yield self._line("prompt", f"{{{{ {expression('prompt')} }}}} Answer in one sentence.")
        else:
            yield "# What to ask. {{ NAME }} stands for a column of the row; any column may be used, also several."
            yield "# `runner check` shows what the template makes."
            if "prompt" in given or seen.prompt:
                yield f"prompt = {toml_lines(given.get('prompt', seen.prompt))}"
            else:
                yield self._line("prompt", "Summarize: {{ row }}")
        yield ""
        yield from self._files()
        yield "# What holds for every row."
        yield self._line("system", "Answer in one short sentence.")
        yield "# Each answer as JSON with these fields, which is checked. They become columns of the export."
        yield self._line("fields", "label: good|bad|mixed, reason: str")
        yield ""

    def _files(self) -> Iterator[str]:
        seen = self._survey
        for name, columns, what in (("images", seen.media.images, "pictures"), ("files", seen.media.files, "files")):
            if not columns:
                continue
            value = columns[0] if len(columns) == 1 else columns
            if columns == [name] and not seen.row_settings:
                yield f"# The column {name} names {what}, which are sent along with the prompt."
                yield self._line(name, value)
            elif seen.prompt is not None and seen.text is None:
                yield f"# The columns that name {what}, which are sent along with the prompt: paths, URLs or data URIs."
                yield self._on(name, value)
            else:
                yield f"# To send {what} along with the prompt: the columns that name them, by paths, URLs or data URIs."
                yield self._line(name, value)
            yield ""

    def _model(self) -> Iterator[str]:
        alone = next(iter(self._keys)) if len(self._keys) == 1 else None
        provider = self._given.get("provider", alone or "openai")
        yield "# Who answers: openai (and any server with its API), anthropic, or simulator, which needs no key."
        yield self._line("provider") if "provider" in self._given or alone in (None, "openai") else self._on("provider", alone)
        yield "# The model has to be chosen before anything is sent."
        yield self._line("model", _MODELS.get(provider, _MODELS["openai"]))
        yield "# The key stays in the environment, never in this file."
        for variable in self._keys.values():
            yield f"# {variable} was set when this file was written."
        if not self._keys:
            yield "# None was set when this file was written: export OPENAI_API_KEY=... or ANTHROPIC_API_KEY=..."
        for variable in self._variables:
            yield f"# {variable} was set too; it wins over this file."
        yield "# Your own server, such as vLLM:"
        yield self._line("base_url", "http://localhost:8000/v1")
        yield ""

    def _rows(self) -> Iterator[str]:
        seen = self._survey
        yield "# The column that names each row, so that rows may be edited, moved and added later."
        if seen.id_repeats and seen.id_column is None and "id_column" not in self._given:
            yield "# The column id has a value twice, which `runner run` refuses: make them different, or name another column."
        if seen.id_column not in (None, "id") or "id_column" in self._given:
            yield self._on("id_column", seen.id_column)
        elif seen.id_maybe is not None:
            yield f"# In the first {plural(seen.read, 'row')} {clean(seen.id_maybe, _NAME)} is another one each time."
            yield self._line("id_column", seen.id_maybe)
        else:
            yield self._line("id_column")
        yield "# The rows to use, and the columns to keep beside the answers. By default all."
        yield self._line("where", _condition(seen))
        yield self._line("sample", 100)
        yield self._line("columns", [column.name for column in seen.columns if _encodable(column.name)][:3] or ["id"])
        if seen.row_settings:
            names = ", ".join(seen.row_settings)
            yield f"# true: {names} of a row are settings of its request. false: they are columns like others."
            yield self._line("row_settings", True) if seen.has_prompt else self._on("row_settings", False)
        yield "# false: the store keeps the answers without the questions."
        yield self._line("keep_rows")
        yield ""

    def _pace(self) -> Iterator[str]:
        yield "# How fast, for how long, and for how much."
        examples: dict[str, Json] = {"rpm": 500, "tpm": 200_000, "deadline": "8h", "max_cost": 5.0, "ok_failed": "2%"}
        for name in ("concurrency", "max_concurrency", "rpm", "tpm", "attempts", "deadline", "max_cost", "ok_failed"):
            yield f"# {BY_NAME[name].help}"
            yield self._line(name, examples.get(name))
        yield ""

    def _params(self) -> Iterator[str]:
        yield "[params]"
        yield f"# {BY_NAME['max_tokens'].help} Without it: what the provider allows."
        yield self._line("max_tokens", 500)
        yield self._line("temperature", 0)
        yield ""


def toml(value: Json) -> str:
    """Return a value as TOML in one line. What a terminal or an editor would act on in a text is written as an escape."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return f'"{escaped(json.dumps(value, ensure_ascii=False)[1:-1])}"'


def toml_lines(text: str) -> str:
    """Return a text as TOML in lines of its own, to be edited."""
    lines = (escaped(json.dumps(line, ensure_ascii=False)[1:-1].replace('\\"', '"')) for line in text.split("\n"))
    return '"""\n' + "\n".join(lines).replace('""', '"\\"') + '"""'


def _encodable(name: str) -> bool:
    return name == name.encode(errors="replace").decode()


def _padded(text: str, width: int) -> str:
    return text + " " * (width - columns_of(text))


def _told(seen: Survey) -> str:
    """Return what a file is, in one phrase."""
    words = [seen.format]
    if seen.options.delimiter is not None:
        words.append(f"separated by {_DELIMITERS.get(seen.options.delimiter, seen.options.delimiter)}")
    if seen.options.encoding is not None:
        words.append("UTF-8" if seen.options.encoding == "utf-8-sig" else seen.options.encoding)
    words += [_size(seen.bytes), rows_told(seen)]
    return ", ".join(words)


def rows_told(seen: Survey) -> str:
    """Return the number of rows, and how certain it is."""
    return _COUNTED[seen.counted] + plural(seen.rows, "row")


def _length(column: Column) -> str:
    return plural(column.typical, "character") if column.filled else "empty"


def _size(number: int) -> str:
    units = ("bytes", "kB", "MB", "GB", "TB")
    place = min(len(units) - 1, (len(str(number)) - 1) // 3)
    return f"{number / 1000**place:,.1f} {units[place]}" if place else f"{number} bytes"


def _condition(seen: Survey) -> str:
    """Return an example of a condition: one value of a column that has few, or a text that is not short."""
    for column in seen.columns:
        value = next(iter(column.values), None)
        if isinstance(value, str | int) and len(str(value)) <= _NAME and _encodable(f"{column.name}{value}"):
            plain = isinstance(value, str) and value.isprintable() and set(value).isdisjoint("'\\")
            return f"{expression(column.name)} == " + (f"'{value}'" if plain else json.dumps(value, ensure_ascii=False))
    name = seen.text or ("prompt" if seen.has_prompt else None)
    return f"{expression(name)} | length > 20" if name is not None else "row | length > 1"


def in_force(environment: Mapping[str, str]) -> list[str]:
    """Return the variables that set what a job file sets too."""
    return [setting.variable for setting in SETTINGS if environment.get(setting.variable)]


def input_names(path: Path, job_file: Path) -> str | list[str]:
    """Return the input as its job file has it: a file or a pattern, or several of them."""
    names = [_input_name(Path(name), job_file) for name in origin.names_of(path)]
    return names[0] if len(names) == 1 else names


def _input_name(file: Path, job_file: Path) -> str:
    """Return the name of an input as its job file has it: relative if it lies in its folder or below."""
    file, folder = file.absolute(), job_file.absolute().parent
    if not file.is_relative_to(folder):
        return str(file)
    name = str(file.relative_to(folder))
    # a name that is standard input elsewhere
    return f"./{name}" if name == "-" else name
