"""Names files that hold no rows that can be read here, by their first bytes. Pure."""

from runner.inputs.sources import HEAD, type_of

_TABLE = "; save it as Parquet or CSV"
_ARCHIVE = "; unpack it and name a file inside"
_PACKED = "; unpack it, or pack it with gzip, bzip2, xz or zstd"
_FILE = "; a row names such a file in its field files"

_PREFIXES = (
    (b"ARROW1\0", f"is an Arrow file (Feather){_TABLE}"),
    (b"\xff\xff\xff\xff", f"is an Arrow stream{_TABLE}"),
    (b"FEA1", f"is an old Feather file{_TABLE}"),
    (b"ORC", f"is an ORC file{_TABLE}"),
    (b"Obj\x01", f"is an Avro file{_TABLE}"),
    (b"\x89HDF\r\n\x1a\n", f"is an HDF5 file{_TABLE}"),
    (b"\x93NUMPY", f"is an array of NumPy{_TABLE}"),
    (b"$FL2", f"is an SPSS file{_TABLE}"),
    (b"$FL3", f"is an SPSS file{_TABLE}"),
    (b"<stata_dta>", f"is a Stata file{_TABLE}"),
    (b"RDX2\n", f"is an R data file{_TABLE}"),
    (b"RDX3\n", f"is an R data file{_TABLE}"),
    (b"X\n\0\0\0", f"is an R data file{_TABLE}"),
    (b"7z\xbc\xaf\x27\x1c", f"is a 7-Zip archive{_ARCHIVE}"),
    (b"Rar!\x1a\x07", f"is a RAR archive{_ARCHIVE}"),
    (b"\x04\x22\x4d\x18", f"is compressed with LZ4{_PACKED}"),
    (b"\xff\x06\0\0sNaPpY", f"is compressed with Snappy{_PACKED}"),
    (b"\x1f\x9d", f"is compressed with compress (.Z){_PACKED}"),
    (b"%PDF", f"is a PDF, not a prompt file{_FILE}"),
    (b"{\\rtf", "is a text with formatting (RTF); save it as plain text"),
)
# A text may begin with these as well: with NULs it is none.
_LETTERS = (b"FEA1", b"ORC", b"$FL2", b"$FL3", b"RDX2\n", b"RDX3\n")
_PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
# what stands in the names of the files inside
_OFFICE = (
    (b"word/", "is a Word document; save it as plain text"),
    (b"ppt/", "is a presentation; save it as plain text"),
    (b"application/vnd.oasis.opendocument.text", "is a text document (.odt); save it as plain text"),
    (b"application/epub", "is a book (EPUB); save it as plain text"),
    (b".npy", f"is an archive of NumPy arrays{_TABLE}"),
)
_TAR = slice(257, 262)
_MEDIA = {"image": "is a picture; a row names its pictures in its field images", "audio": f"is a recording{_FILE}"}


def named(head: bytes) -> str | None:
    """Return what a file is, in words that follow its name; None if its first bytes do not tell."""
    is_binary = b"\0" in head[:1024]
    found = next((words for magic, words in _PREFIXES if head.startswith(magic)), None)
    if found is not None and (is_binary or not head.startswith(_LETTERS)):
        return found
    if not is_binary:
        return None
    if head.startswith(_PICKLES):
        return f"is a pickle of Python{_TABLE}"
    if head[_TAR] == b"ustar":
        return f"is a tar archive{_ARCHIVE}"
    return _MEDIA.get(type_of(head[:HEAD]).partition("/")[0])


def office_document(head: bytes) -> str | None:
    """Return what a zip file is that holds no sheet, in words that follow its name; None if that does not tell."""
    return next((words for name, words in _OFFICE if name in head[:4096]), None)
