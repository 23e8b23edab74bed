"""What a job says about how its input is to be read."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, structs

from runner.media import MEDIA_FIELDS, MediaField


class ReadOptions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an input is read. None: found out from the file."""

    # name of an input format
    format: str | None = None
    # encoding of a text, by Python's name
    encoding: str | None = None
    # what separates the cells of a table in a text
    delimiter: str | None = None
    # quotation marks in a table of texts stand behind a backslash, and are not doubled
    escaped: bool = False
    # the first column of a table of texts has no place in the header
    row_names: bool = False
    # name of a sheet, or its number from 1 on
    sheet: str | None = None
    # field that is the id of a row
    id_column: str = "id"
    # False: fields such as ``model`` are the user's own data
    row_settings: bool = True
    # expression over the fields of a row that must hold; None: all rows
    where: str | None = None
    # number of rows that are chosen at random; None: all
    sample: int | None = None
    sample_seed: int = 0
    # fields that name files of a row
    media: Mapping[str, MediaField] = MEDIA_FIELDS
    # fields that the template of the job names; None: there is none
    asked: frozenset[str] | None = None

    def given(self) -> Mapping[str, Any]:
        """Return the options that are not the default."""
        defaults = ReadOptions()
        return {name: value for name, value in structs.asdict(self).items() if value != getattr(defaults, name)}
