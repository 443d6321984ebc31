"""pyarrow, where it is installed: the scorer itself does without."""

from pathlib import Path
from typing import Any

from edgedistill_serve.errors import DataError

SUFFIX = ".parquet"


def import_pyarrow(name: str) -> Any:
    """Import pyarrow with its Parquet part.

    Args:
        name: Of the file that needs it, for the message.

    Raises:
        DataError: It is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet  # the part is wanted as an attribute of `pa`
    except ImportError:
        raise DataError(
            "Parquet files need pyarrow", where=name, hint='Install it: pip install "edgedistill-serve[parquet]".'
        ) from None
    return pa


def column_types(path: Path) -> dict[str, Any]:
    """Return the Arrow type of every column of a Parquet file; none for a file of another kind."""
    if path.suffix.lower() != SUFFIX:
        return {}
    schema = import_pyarrow(path.name).parquet.read_schema(path)
    return dict(zip(schema.names, schema.types, strict=True))
