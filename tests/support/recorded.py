"""The prompt files that other programs made, and what they hold. ``recordings/make_inputs.py`` made some of them."""

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "recordings" / "inputs"
READ_ONLY = ("libreoffice.x", "libreoffice_", "libreoffice.csv", "libreoffice.ods", "r_write_csv_", "r_write_csv2", "readr")
"""Begins of names: these files are read by a unit test, the others are run too."""

QUOTE = 'He said "no"\nand left'
_OF_PANDAS = ["Great, really", QUOTE, "Größe: 5 €"]
_OF_LIBREOFFICE = ['Great; "really",\ntwo lines', "Größe: 5 €"]
_ID = ("--id-column", "column_1")

FILES: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "pandas.csv": ((), _OF_PANDAS),
    "pandas_index.csv": ((), _OF_PANDAS),
    "pandas_utf16.csv": ((), _OF_PANDAS),
    "pandas_semicolon_cp1252.csv": ((), _OF_PANDAS),
    "pandas_records.json": ((), _OF_PANDAS),
    "pandas_pretty.json": ((), _OF_PANDAS),
    "pandas.jsonl": ((), _OF_PANDAS),
    "pandas.parquet": ((), _OF_PANDAS),
    "pandas.xlsx": ((), _OF_PANDAS),
    "pandas.ods": ((), _OF_PANDAS),
    "polars.csv": ((), _OF_PANDAS[:2]),
    "polars.tsv": ((), _OF_PANDAS[:2]),
    "polars.ndjson": ((), _OF_PANDAS[:2]),
    "polars.parquet": ((), _OF_PANDAS[:2]),
    "excel_semicolon.csv": ((), ["Great; really", "two\nlines"]),
    "openpyxl.xlsx": (("--sheet", "First"), ["Great, really", "=SUM(1,2)"]),
    "libreoffice.csv": ((), _OF_LIBREOFFICE),
    "libreoffice.tsv": ((), _OF_LIBREOFFICE),
    "libreoffice_cp1252.csv": ((), _OF_LIBREOFFICE),
    "libreoffice.xlsx": ((), _OF_LIBREOFFICE),
    "libreoffice.ods": ((), _OF_LIBREOFFICE),
    "libreoffice.xls": ((), _OF_LIBREOFFICE),
    "libreoffice_wide.xlsx": ((), ["Great"]),
    "libreoffice_wide.ods": ((), ["Great"]),
    "r_write_csv.csv": (_ID, ["Great, really", 'He said "no"']),
    "r_write_csv_row_names.csv": ((), _OF_PANDAS),
    "r_write_csv2.csv": ((), _OF_PANDAS),
    "r_write_table.tsv": ((), _OF_PANDAS),
    "readr_write_csv.csv": ((), _OF_PANDAS),
    "readr_write_excel_csv2.csv": ((), _OF_PANDAS),
    # the file has them doubled outside of quotes
    "readr_write_tsv.tsv.gz": ((), ["Great, really", 'He said ""no""', "Größe: 5 €"]),
}
"""By name: the options that reading takes beside a template, and the texts of the rows, whose ids are 1, 2, 3."""
