"""How many tokens a text has: by the model's own tokenizer where it lies on this machine, else by a stated rule.

tiktoken fetches an encoding's file from the network when it is not there. So it is asked only where the file lies in
its folder (``TIKTOKEN_CACHE_DIR``, ``DATA_GYM_CACHE_DIR`` or ``data-gym-cache`` among the temporary files), whole.
"""

import hashlib
import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_BYTES_PER_TOKEN = 3.5  # English text has about 4 bytes a token, JSON and other languages fewer
_FILES = {  # encoding: address under which tiktoken keeps its file, and the file's SHA-256
    "o200k_base": (
        "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "cl100k_base": (
        "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
}


@dataclass(frozen=True, slots=True)
class TokenCount:
    """A way to count tokens.

    Attributes:
        count: Returns the tokens of a text.
        rule: The way in words.
    """

    count: Callable[[str], int]
    rule: str


def token_count(model: str) -> TokenCount:
    """Return the best way to count a model's tokens that needs no network."""
    name = _encoding(model)
    if name and _lies_here(name):
        import tiktoken

        encoding = tiktoken.get_encoding(name)
        return TokenCount(lambda text: len(encoding.encode(text, disallowed_special=())), f"tiktoken {name}")
    return TokenCount(
        lambda text: math.ceil(len(text.encode("utf-8", "replace")) / _BYTES_PER_TOKEN),
        f"UTF-8 bytes / {_BYTES_PER_TOKEN}",
    )


def _encoding(model: str) -> str | None:
    try:
        from tiktoken.model import encoding_name_for_model
    except ImportError:
        return None
    try:
        return str(encoding_name_for_model(model))
    except KeyError:
        return None


def _lies_here(encoding: str) -> bool:
    if encoding not in _FILES:
        return False
    address, sha256 = _FILES[encoding]
    given = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    folder = Path(tempfile.gettempdir()) / "data-gym-cache" if given is None else Path(given)
    file = folder / hashlib.sha1(address.encode(), usedforsecurity=False).hexdigest()
    try:
        return given != "" and hashlib.sha256(file.read_bytes()).hexdigest() == sha256
    except OSError:
        return False
