r"""The built-in patterns of redaction, by version, and the characters that count as the same.

A bundle must redact as its training texts were redacted. A version is therefore never changed: another set of patterns
is another version. The patterns use only what `edgedistill_export.web.patterns` can translate to JavaScript, and no
repetition of theirs can be matched in more than one way over more than a few characters, so that time grows linearly.
"""

import re
from dataclasses import dataclass

URL, EMAIL, PHONE, ID = "[URL]", "[EMAIL]", "[PHONE]", "[ID]"
PLACEHOLDERS = re.compile(rf"({'|'.join(map(re.escape, (URL, EMAIL, PHONE, ID)))})")
"""Matches placeholders, which are never searched again."""


@dataclass(frozen=True, slots=True)
class Step:
    """A pattern and what its matches become.

    Attributes:
        pattern: The pattern.
        placeholder: The replacement.
        unchanged: Texts that are never part of a match, such as dates; None for none.
        folded: Whether the pattern is matched with the text of `fold`.
        sign: Matches, in less time, every text that has a match; None to search every text.
    """

    pattern: re.Pattern[str]
    placeholder: str
    unchanged: re.Pattern[str] | None = None
    folded: bool = False
    sign: re.Pattern[str] | None = None


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The built-in patterns of one version.

    Attributes:
        before: The steps before the project's own patterns.
        after: The steps after them.
        folded: Whether patterns are also matched with the text of `fold`.
        passes: How often the steps are applied at most; they end when nothing changes.
        isolated: Whether the text between placeholders is matched as a text of its own.
    """

    before: tuple[Step, ...]
    after: tuple[Step, ...]
    folded: bool
    passes: int
    isolated: bool


def _blocks(starts: str, length: int, first: str) -> dict[str, str]:
    """Map blocks of consecutive characters to those that begin with `first`."""
    return {chr(ord(start) + step): chr(ord(first) + step) for start in starts for step in range(length)}


_DIGITS = (
    "\u0660\u06f0\u07c0\u0966\u09e6\u0a66\u0ae6\u0b66\u0be6\u0c66\u0ce6\u0d66\u0e50\u0ed0\u0f20\u1040\u17e0\u1810"
    "\U0001d7ce\U0001d7d8\U0001d7e2\U0001d7ec\U0001d7f6\U0001fbf0"
)
SAME: dict[str, str] = {
    **_blocks("\uff01", 94, "!"),
    **_blocks(_DIGITS, 10, "0"),
    **dict.fromkeys("\u00a0\u1680\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B))), " "),
    **dict.fromkeys("\u02d7\u058a\u05be\u2043\u207b\u208b\u2212\u30fc\ufe58\ufe63\uff70", "-"),
    **dict.fromkeys(map(chr, range(0x2010, 0x2016)), "-"),
    **dict.fromkeys("\u2018\u2019\u02bc\u00b4", "'"),
    **dict.fromkeys("\u2024\ufe52", "."),
    **dict.fromkeys("\u2044\u2215", "/"),
    "\ufe6b": "@",
}
"""Characters that are matched as another one: full-width forms, digits, spaces, dashes, apostrophes."""
INVISIBLE = (
    "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064"
    "\u2066\u2067\u2068\u2069\ufe00\ufe01\ufe02\ufe03\ufe04\ufe05\ufe06\ufe07\ufe08\ufe09\ufe0a\ufe0b\ufe0c\ufe0d\ufe0e"
    "\ufe0f\ufeff"
)
"""Characters that are matched as if they were not there, such as soft hyphens."""
_FOLDING = str.maketrans(SAME | dict.fromkeys(INVISIBLE, ""))


def fold(text: str) -> tuple[str, list[int] | None]:
    """Return the text with `SAME` replaced and `INVISIBLE` removed, and the place of each remaining character.

    The places are None if every character has kept its own.
    """
    if text.isascii():
        return text, None
    folded = text.translate(_FOLDING)
    if len(folded) == len(text):
        return folded, None
    return folded, [place for place, letter in enumerate(text) if letter not in INVISIBLE]


def _version_1() -> RuleSet:
    ending = r"[^\s.,;:!?'\")\]}>]"
    url = re.compile(rf"(?:\b(?:https?|ftp)://|\bwww\.)\S*{ending}", re.IGNORECASE)
    email = re.compile(r"[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}\w{2,24}")
    host = re.compile(
        rf"\b(?:[a-z0-9-]{{1,63}}\.){{1,8}}(?:com|edu|gov|info|io|net|org)\b(?:/\S*{ending})?", re.IGNORECASE
    )
    phone = re.compile(
        r"(?<![\w.,])(?:"
        r"(?:\+|00)[ ]?[1-9](?:[ .()/-]{0,2}[0-9]){6,14}"
        r"|\([0-9]{2,5}\)[ -]?[0-9](?:[ .-]?[0-9]){4,9}"
        r"|(?:1[ .-])?[0-9]{3}[ .-][0-9]{3}[ .-][0-9]{4}"
        r"|[0-9]{3}-[0-9]{4}"
        r"|0[0-9](?:[ ./-]?[0-9]){7,10}"
        r"|[2-9][0-9]{9}"
        r")(?!\w)(?![.,]\w)"
    )
    # It was applied until nothing changed; only texts made for it need more passes, and one took a minute.
    before = (Step(url, URL), Step(email, EMAIL), Step(host, URL))
    return RuleSet(before, (Step(phone, PHONE),), folded=False, passes=8, isolated=True)


_ANY_CASE = "biz com edu gov info io mil net org xyz"
"""Top-level domains that are found without more evidence, in any case."""
_COUNTRIES = (
    "ac ae af ar au aw az ba bd bg bh bn bo br bt bw bz ca ch ci ck cl cn co cr cu cw cx cy cz de dk do dz ec ee eg eu "
    "fi fj fk fr ge gg gh gl gr gt gy hk hn ht hu ie il io iq ir jm jp ke kh kn kr kw ky kz lc lk lr lt lu lv ly mc mk "
    "mn mt mv mw mx mz ng ni nl np nr nz om pf pg ph pk pl pr pt pw qa ro ru rw sc sd sg sk sl sn sv sy sz td th tj tm "
    "tn tr tt tv tw tz ua ug uk uy uz vc vg vn vu ws za zm zw"
)
"""Country domains that are no common word, unit or file ending: found in lower or upper case."""
_WORDS = (
    "ad ag ai al am as at be bi by cc cm es et fm hr id im in is it je kg ki km la li ma me mg mm ms mu my na ne no nu "
    "pa pe re sa se si so sr st su to us va ve vi ye app blog cloud dev club site store shop online school academy"
)
"""Domains that are also words or units: found with a path, port, hyphen or digit, or below ``co`` and the like."""
_ENDINGS = "do md ml pl pm ps py rs sh so zip"
"""Domains that are also endings of file names: found with a path or a port, or below ``co`` and the like."""
_SECOND = "ac co com edu gov gob gouv net org sch"
"""Second-level domains that make any country domain one."""


def _alternatives(names: str, *, any_case: bool = False) -> str:
    spelled = sorted({form for name in names.split() for form in (name, name.upper())})
    capitals = sorted({name.capitalize() for name in names.split()}) if any_case else []
    return f"(?:{'|'.join([*spelled, *capitals])})"


_LETTERS = r"[^\s<>\"\u201c\u201d\u201e\u00ab\u00bb\u2e80-\ufefe\U00020000-\U0003ffff]"
"""What an address may go on with: no white space, quotation marks and ideographs."""
_ENDING = r"[^\s<>\"\u201c\u201d\u201e\u00ab\u00bb\u2e80-\ufefe\U00020000-\U0003ffff.,;:!?'\u2026)\]}]"
_PORT = r":[0-9]{2,5}(?![\w-])(?!\.\w)"
_MORE = rf"(?:{_PORT})?(?:[/?#](?:{_LETTERS}*{_ENDING})?)?"
_LABELS = r"(?<![\w-])(?<![\w-]\.)(?:[\w-]+\.)*"
"""The beginning of a host name. A run of labels is entered at its first letter only."""
_LETTER_LABEL = r"(?=[\d_-]*[^\W\d_])[\w-]+\."
_MARKED_LABEL = r"(?=[^\W\d_]*[\d-])(?=[\d_-]*[^\W\d_])[\w-]+\."
_END = r"(?![\w-])"
_HOST = (
    rf"{_LABELS}(?:"
    rf"(?<=k12\.)[a-z]{{2}}\.us{_END}"
    rf"|{_LETTER_LABEL}{_alternatives(_SECOND)}\."
    rf"{_alternatives(f'{_COUNTRIES} {_WORDS} {_ENDINGS}')}{_END}"
    rf"|{_LETTER_LABEL}(?:{_alternatives(_ANY_CASE, any_case=True)}|{_alternatives(_COUNTRIES)}){_END}"
    rf"|{_MARKED_LABEL}{_alternatives(_WORDS)}{_END}"
    rf"|{_LETTER_LABEL}{_alternatives(f'{_WORDS} {_ENDINGS}')}(?={_PORT}|/[\w~@?])"
    rf"){_MORE}"
)
_AT = r"(?:@| ?[(\[] ?[Aa][Tt] ?[)\]] ?)"
_DOT = r"(?:\.| ?[(\[] ?[Dd][Oo][Tt] ?[)\]] ?)"
_EMAIL = (
    rf"(?<![\w.+%-])(?<![\w.+%-]')[\w.+%-]+(?:'[\w.+%-]+)*{_AT}"
    rf"(?:[\w-]+{_DOT})+(?:xn--[A-Za-z0-9]+|[^\W\d_]{{2,24}})"
)
_WEB = rf"(?:[Hh][Tt][Tt][Pp][Ss]?://|[Ff][Tt][Pp][Ss]?://|(?<!\w)[Ww][Ww][Ww][0-9]?\.){_LETTERS}*{_ENDING}"

_JOIN = r"(?: ?- ?|[ ./]| ?\(| ?\) ?-?)?"
"""What may stand between two digits of a number in international or national form."""
_GAP = r"(?: ?- ?|[ .])"
_NOT_ROUND = "(?![1-9][05]00)"
"""Excludes ranges and differences such as 200-1000."""
_FORMATTED = (
    rf"(?<![\w)\]])\+[1-9](?:{_JOIN}[0-9]){{7,14}}"
    rf"|(?<![\w)\]])(?<![\w)\]] )\+ [1-9](?:{_JOIN}[0-9]){{7,14}}"
    r"|(?:(?<![a-zA-Z])|(?<!\w)(?<![0-9\]][-.:/])[18][ -]?)"
    r"\((?!(?:19|20)[0-9]{2}\))\+?[0-9]{2,5}\) ?-?[0-9](?:[ .-]?[0-9]){4,9}"
    r"|(?<!\w)(?<![0-9\]][-.])(?:1-)?[0-9]{3}-[0-9]{3}-?[0-9]{4}"
)
_PLAIN = (
    rf"(?<![0-9\]] )00[1-9](?:{_JOIN}[0-9]){{7,13}}"
    rf"|(?:1[ .])?[2-9][0-9]{{2}}{_GAP}[2-9][0-9]{{2}}{_GAP}{_NOT_ROUND}[0-9]{{4}}"
    r"|(?:1 ?)?[2-9][0-9]{2} ?[2-9][0-9]{2}-?[0-9]{4}"
    r"|(?=[01 ./-]{0,16}[2-9])0[1-9](?:(?: ?- ?|[ ./])?[0-9]){7,10}"
    r"|1[3-9][0-9]{9}"
    r"|[6-9][0-9]{4}[ -](?![0-9]{2}000)[0-9]{5}"
    rf"|[2-9][0-9]{{2}}-{_NOT_ROUND}[0-9]{{4}}(?!-[0-9]|-\Z)"
)
_NUMBER = (
    rf"(?:{_FORMATTED}|(?<!\w)(?<![0-9\]][-.:/])(?:{_PLAIN}))"
    r"(?!\w)(?!\.[0-9]{1,9}(?![0-9.-]))(?!:[0-9]{1,2}(?![0-9-]))"
)
_DATE = r"(?:0?[1-9]|[12][0-9]|3[01])"
_NO_PHONE = (
    r"(?<!\w)[Ii][Ss][BbSs][Nn](?:-1[03])?:? ?[0-9][0-9 -]{6,15}[0-9Xx](?!\w)"
    rf"|(?<![\w.,])(?:19|20)[0-9]{{2}}[-./](?:0?[1-9]|1[0-2])[-./]{_DATE}(?!\w)"
    rf"|(?<![\w.,]){_DATE}[-./]{_DATE}[-./](?:(?:19|20)[0-9]{{2}}(?!\w)|[0-9]{{2}}(?!\w)(?![-./][0-9]))"
    r"|(?<!\w)0?123456789[0]?(?!\w)"
    r"|(?<![\w.,])0,[0-9]+(?!\w)"
)


def _version_2() -> RuleSet:
    def step(pattern: str, placeholder: str, sign: str, unchanged: str | None = None) -> Step:
        kept = re.compile(unchanged) if unchanged else None
        return Step(re.compile(pattern), placeholder, kept, folded=True, sign=re.compile(sign))

    addresses = (
        step(_WEB, URL, "://|[Ww][Ww][Ww]"),
        step(_EMAIL, EMAIL, r"@|[Aa][Tt] ?[)\]]"),
    )
    asp = r"(?<!\w)(?:[Aa][Ss][Pp]|[VvAa][Bb])\.[Nn][Ee][Tt](?!\w)"
    hosts = step(_HOST, URL, r"[\w-]\.[A-Za-z]", asp)
    numbers = step(_NUMBER, PHONE, r"[0-9](?:[ ()./-]{0,4}[0-9]){6}", _NO_PHONE)
    # Addresses are searched again after the project's ids, without which they may begin or end elsewhere.
    return RuleSet(addresses, (*addresses, hosts, numbers), folded=True, passes=1, isolated=False)


RULE_SETS = {1: _version_1(), 2: _version_2()}
"""The built-in patterns by version."""
