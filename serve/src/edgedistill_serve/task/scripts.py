"""How much of a text are letters of which scripts.

The tables are fixed, and coarse: whole blocks of Unicode, with their marks and digits. So every version of Python, and
the web page, agree.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import NamedTuple

from edgedistill_serve.task.visible_text import SPACES

SCRIPTS: dict[str, tuple[tuple[int, int], ...]] = {
    "Latin": (
        *((0x41, 0x5A), (0x61, 0x7A), (0xAA, 0xAA), (0xBA, 0xBA), (0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0x2AF)),
        *((0x1D00, 0x1DBF), (0x1E00, 0x1EFF), (0x2C60, 0x2C7F), (0xA722, 0xA7FF), (0xAB30, 0xAB6F), (0xFB00, 0xFB06)),
        *((0xFF21, 0xFF3A), (0xFF41, 0xFF5A)),
    ),
    "Greek": ((0x370, 0x37D), (0x37F, 0x3FF), (0x1F00, 0x1FFF)),
    "Cyrillic": ((0x400, 0x52F), (0x1C80, 0x1C8F), (0x2DE0, 0x2DFF), (0xA640, 0xA69F)),
    "Armenian": ((0x531, 0x588), (0xFB13, 0xFB17)),
    "Hebrew": ((0x591, 0x5F2), (0xFB1D, 0xFB4F)),
    "Arabic": (
        *((0x610, 0x61A), (0x620, 0x669), (0x66E, 0x6D3), (0x6D5, 0x6FF), (0x750, 0x77F), (0x8A0, 0x8FF)),
        *((0xFB50, 0xFDFF), (0xFE70, 0xFEFC)),
    ),
    "Syriac": ((0x710, 0x74F),),
    "Thaana": ((0x780, 0x7BF),),
    "Devanagari": ((0x900, 0x963), (0x966, 0x97F), (0xA8E0, 0xA8FF)),
    "Bengali": ((0x980, 0x9FF),),
    "Gurmukhi": ((0xA00, 0xA7F),),
    "Gujarati": ((0xA80, 0xAFF),),
    "Oriya": ((0xB00, 0xB7F),),
    "Tamil": ((0xB80, 0xBFF),),
    "Telugu": ((0xC00, 0xC7F),),
    "Kannada": ((0xC80, 0xCFF),),
    "Malayalam": ((0xD00, 0xD7F),),
    "Sinhala": ((0xD80, 0xDFF),),
    "Thai": ((0xE01, 0xE4E), (0xE50, 0xE59)),
    "Lao": ((0xE80, 0xEFF),),
    "Tibetan": ((0xF00, 0xFFF),),
    "Myanmar": ((0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F)),
    "Georgian": ((0x10A0, 0x10FF), (0x1C90, 0x1CBF), (0x2D00, 0x2D2F)),
    "Hangul": ((0x1100, 0x11FF), (0x3131, 0x318E), (0xA960, 0xA97F), (0xAC00, 0xD7FF)),
    "Ethiopic": ((0x1200, 0x135F), (0x1380, 0x139F), (0x2D80, 0x2DDF), (0xAB00, 0xAB2F)),
    "Cherokee": ((0x13A0, 0x13FF), (0xAB70, 0xABBF)),
    "Canadian Aboriginal": ((0x1400, 0x167F), (0x18B0, 0x18FF)),
    "Khmer": ((0x1780, 0x17D3), (0x17E0, 0x17E9)),
    "Mongolian": ((0x1820, 0x18AF),),
    "Tifinagh": ((0x2D30, 0x2D7F),),
    "Kana": ((0x3041, 0x309F), (0x30A1, 0x30FA), (0x30FC, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9D)),
    "Bopomofo": ((0x3105, 0x312F),),
    "Han": ((0x3005, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),
    "Yi": ((0xA000, 0xA4CF),),
    "Adlam": ((0x1E900, 0x1E95F),),
}
"""First and last code points of the letters of each script."""
COMBINING = (0x300, 0x36F)
"""Accents that are characters of their own; they are part of the letter before them and count as nothing."""

_RANGES = sorted((*range_, name) for name, ranges in SCRIPTS.items() for range_ in ranges)
_FIRST = [first for first, _, _ in _RANGES]


class Letters(NamedTuple):
    """What a text consists of.

    Attributes:
        by_script: Number of letters by script of `SCRIPTS`.
        visible: Number of visible characters: letters, digits, punctuation and symbols.
    """

    by_script: Mapping[str, int]
    visible: int

    def share(self, scripts: Collection[str]) -> float:
        """Return the share of the visible characters that are letters of some scripts, in [0, 1]; 1 for a blank text.

        Args:
            scripts: Names in `SCRIPTS`.
        """
        letters = sum(count for name, count in self.by_script.items() if name in scripts)
        return min(1.0, letters / self.visible) if self.visible else 1.0


NO_LETTERS = Letters({}, 0)


def count_letters(text: str) -> Letters:
    """Count the letters of a text by script, in linear time.

    >>> count_letters("Да, 2 yes").by_script
    {'Cyrillic': 2, 'Latin': 3}
    """
    found: dict[str, int] = {}
    visible = 0
    for character, count in Counter(text).items():
        if name := _script(character):
            found[name] = found.get(name, 0) + count
        visible += count * _is_visible(character)
    return Letters(found, visible)


@lru_cache(maxsize=4096)
def _script(character: str) -> str:
    place = bisect_right(_FIRST, ord(character)) - 1
    return _RANGES[place][2] if place >= 0 and ord(character) <= _RANGES[place][1] else ""


@lru_cache(maxsize=4096)
def _is_visible(character: str) -> bool:
    return not (SPACES.match(character) or COMBINING[0] <= ord(character) <= COMBINING[1])
