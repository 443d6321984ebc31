"""The formats of tables by the suffixes of their files."""

from dataclasses import dataclass

from edgedistill_serve.errors import DataError

_FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".xlsx": "xlsx"}
_SPREADSHEETS = (".xls", ".xlsm", ".xlsb", ".xlt", ".xltx", ".ods", ".fods", ".numbers", ".gsheet")
_COMPRESSIONS = (".gz", ".zst")
DELIMITERS = {"csv": ",", "tsv": "\t"}
WRITTEN = ("csv", "tsv", "jsonl", "parquet")
"""The formats that are written."""


@dataclass(frozen=True, slots=True)
class TableFormat:
    """The format of a file.

    Attributes:
        kind: ``csv``, ``tsv``, ``jsonl``, ``parquet`` or ``xlsx``.
        suffix: As it is in the file's name, with that of the compression.
        compression: ``.gz``, ``.zst`` or none.
    """

    kind: str
    suffix: str
    compression: str = ""


def suffixes() -> tuple[str, ...]:
    """Return all suffixes of tables."""
    compressed = tuple(f"{each}{end}" for each in (".csv", ".tsv", ".jsonl", ".ndjson") for end in _COMPRESSIONS)
    return (*_FORMATS, *compressed)


def table_format(name: str, stated: str | None = None) -> TableFormat:
    """Return the format of a file.

    Args:
        name: The file's name.
        stated: A format, which the suffix need not name.

    Raises:
        DataError: The suffix is not that of a table.
    """
    lower = name.lower()
    compression = next((each for each in _COMPRESSIONS if lower.endswith(each)), "")
    inner = lower.removesuffix(compression)
    suffix = next((each for each in _FORMATS if inner.endswith(each)), None)
    kind = stated or (_FORMATS[suffix] if suffix else None)
    if kind is None or (compression and kind in ("parquet", "xlsx")):
        ending = "" if "." not in name else name[name.rindex(".") :]
        if ending.lower() in _SPREADSHEETS:
            raise DataError(
                f"a file of the type {ending!r} cannot be read",
                where=name[:300],
                hint="Open it in a spreadsheet program, and save it as xlsx or as CSV UTF-8.",
            )
        raise DataError(
            f"the suffix {ending!r} is not supported for tables",
            where=name[:300],
            hint=f"Use a {', '.join(_FORMATS)} file.",
        )
    return TableFormat(kind, f"{suffix or f'.{kind}'}{compression}", compression)
