"""Makes the files of LibreOffice and R in ``inputs/``. The tests read the recorded files and need neither program.

    python tests/recordings/make_inputs.py

Made with LibreOffice 7.4.7.2 (Debian: libreoffice-calc), R 4.2.2 (r-base-core) and readr 2.1.4 (r-cran-readr). The other files
there are of pandas, polars and openpyxl; ``excel_semicolon.csv`` is as Excel writes it in German.
"""

import subprocess
import tempfile
from pathlib import Path

INPUTS = Path(__file__).parent / "inputs"
WIDE = 300
# of LibreOffice's filter: delimiter, quotation mark, encoding (76 is UTF-8, 1 is Windows-1252), each as a number
_FILTER = "csv:Text - txt - csv (StarCalc)"
_TEXTS = {"libreoffice.csv": "44,34,76", "libreoffice.tsv": "9,34,76", "libreoffice_cp1252.csv": "59,34,1"}
# a sheet as LibreOffice keeps it: two columns of one name, one without, a date, a time, a share, a formula, empty cells
_SHEET = """<?xml version="1.0" encoding="UTF-8"?>
<office:document xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
 xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"
 xmlns:of="urn:oasis:names:tc:opendocument:xmlns:of:1.2" xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0"
 xmlns:number="urn:oasis:names:tc:opendocument:xmlns:datastyle:1.0"
 office:version="1.2" office:mimetype="application/vnd.oasis.opendocument.spreadsheet">
<office:automatic-styles>
<number:date-style style:name="of-date"><number:day number:style="long"/><number:text>.</number:text>
<number:month number:style="long"/><number:text>.</number:text><number:year number:style="long"/></number:date-style>
<number:time-style style:name="of-time"><number:hours number:style="long"/><number:text>:</number:text>
<number:minutes number:style="long"/></number:time-style>
<number:percentage-style style:name="of-percentage"><number:number number:decimal-places="0"/><number:text>%</number:text>
</number:percentage-style>
<style:style style:name="date" style:family="table-cell" style:data-style-name="of-date"/>
<style:style style:name="time" style:family="table-cell" style:data-style-name="of-time"/>
<style:style style:name="percentage" style:family="table-cell" style:data-style-name="of-percentage"/>
</office:automatic-styles>
<office:body><office:spreadsheet>
<table:table table:name="Reviews">
<table:table-row>{header}</table:table-row>
<table:table-row>{first}</table:table-row>
<table:table-row><table:table-cell table:number-columns-repeated="8"/></table:table-row>
<table:table-row>{second}</table:table-row>
</table:table></office:spreadsheet></office:body></office:document>
"""
_R = r"""
reviews <- data.frame(
  id = 1:3, text = c("Great, really", "He said \"no\"\nand left", "Gr\u00f6\u00dfe: 5 \u20ac"),
  price = c(1.5, NA, 1000000), day = as.Date("2024-02-29") + 0:2, code = c("007", "", NA)
)
write.csv(reviews, "r_write_csv_row_names.csv", fileEncoding = "UTF-8")
write.csv2(reviews, "r_write_csv2.csv", row.names = FALSE, fileEncoding = "UTF-8")
write.table(reviews, "r_write_table.tsv", sep = "\t", fileEncoding = "UTF-8")
readr::write_csv(reviews, "readr_write_csv.csv")
readr::write_excel_csv2(reviews, "readr_write_excel_csv2.csv")
# it puts no quotation marks around a line break
reviews$text[2] <- "He said \"no\""
readr::write_tsv(reviews, "readr_write_tsv.tsv.gz")
"""


def _cell(value: str, kind: str = "string", shown: str = "") -> str:
    attribute = {"string": "", "date": f' office:date-value="{value}"', "time": f' office:time-value="{value}"'}.get(
        kind, f' office:value="{value}"'
    )
    words = "".join(f"<text:p>{line}</text:p>" for line in (shown or value).split("\n"))
    style = f' table:style-name="{kind}"' if kind in ("date", "time", "percentage") else ""
    whole = f'<table:table-cell office:value-type="{kind}"{style}{attribute}>{words}</table:table-cell>'
    return whole if value else "<table:table-cell/>"


def _sheet() -> str:
    formula = '<table:table-cell table:formula="of:=2*3" office:value-type="float" office:value="6"/>'
    return _SHEET.format(
        header="".join(map(_cell, ("id", "text", "text", "", "day", "at", "share", "sum", "code"))),
        first=_cell("1", "float")
        + _cell('Great; "really",\ntwo lines')
        + _cell("second text")
        + _cell("")
        + _cell("2024-02-29", "date", "29.02.2024")
        + _cell("PT13H05M00S", "time", "13:05:00")
        + _cell("0.25", "percentage", "25 %")
        + formula
        + _cell("007"),
        second=_cell("2", "float")
        + _cell("Größe: 5 €")
        + _cell("")
        + _cell("extra")
        + _cell("2024-12-31T23:59:58", "date", "31.12.2024 23:59")
        + _cell("")
        + _cell("1", "percentage", "100 %")
        + formula
        + _cell("=not a formula"),
    )


def _converted(folder: Path, source: Path, name: str, kind: str) -> None:
    profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    command = ["soffice", "--headless", profile, "--convert-to", kind, "--outdir", str(folder / "out"), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    made = folder / "out" / f"{source.stem}.{kind.partition(':')[0]}"
    made.replace(INPUTS / name)


def main() -> None:
    """Make all of them anew."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "reviews.fods").write_text(_sheet(), encoding="utf-8")
        for kind in ("xlsx", "ods", "xls"):
            _converted(folder, folder / "reviews.fods", f"libreoffice.{kind}", kind)
        for name, numbers in (
            ("libreoffice.csv", "44,34,76"),
            ("libreoffice.tsv", "9,34,76"),
            ("libreoffice_cp1252.csv", "59,34,1"),
        ):
            _converted(folder, folder / "reviews.fods", name, f"{_FILTER}:{numbers},1")
        names = ",".join(f"c{number}" for number in range(WIDE))
        (folder / "wide.csv").write_text(f"id,text,{names}\n1,Great,{','.join(['x'] * WIDE)}\n", encoding="utf-8")
        for kind in ("xlsx", "ods"):
            _converted(folder, folder / "wide.csv", f"libreoffice_wide.{kind}", kind)
        subprocess.run(["Rscript", "-e", _R], check=True, capture_output=True, cwd=folder)
        for made in folder.glob("r*_write_*"):
            made.replace(INPUTS / made.name)


if __name__ == "__main__":
    main()
