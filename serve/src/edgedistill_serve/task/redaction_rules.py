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


@dataclass(frozen=True, slots=True)
class _Edges:
    """Where words, numbers and the names in an address begin and end.

    Attributes:
        before: Matches where no letter, digit or underscore of the same word stands before.
        after: The same for what follows.
        local: What stands before the ``@`` of an e-mail address.
        domain: What stands behind it.
        labels: The first names of a host name. A run of names is entered at its first letter only.
        letter_label: A name with a letter, and its dot.
        marked_label: The same with a digit or a hyphen besides.
        beyond: Characters that end a web address, inside a set.
        no_amount: Matches where no unit of money follows.
        mobile: Mobile numbers of China.
    """

    before: str
    after: str
    local: str
    domain: str
    labels: str
    letter_label: str
    marked_label: str
    beyond: str
    no_amount: str
    mobile: str


_DOT = r"(?:\.| ?[(\[] ?[Dd][Oo][Tt] ?[)\]] ?)"
_IDEOGRAPHS = r"\u2e80-\ufefe\U00020000-\U0003ffff"
_SPACED = _Edges(
    before=r"(?<!\w)",
    after=r"(?!\w)",
    local=r"(?<![\w.+%-])(?<![\w.+%-]')[\w.+%-]+(?:'[\w.+%-]+)*",
    domain=rf"(?:[\w-]+{_DOT})+(?:xn--[A-Za-z0-9]+|[^\W\d_]{{2,24}})",
    labels=r"(?<![\w-])(?<![\w-]\.)(?:[\w-]+\.)*",
    letter_label=r"(?=[\d_-]*[^\W\d_])[\w-]+\.",
    marked_label=r"(?=[^\W\d_]*[\d-])(?=[\d_-]*[^\W\d_])[\w-]+\.",
    beyond=_IDEOGRAPHS,
    no_amount="",
    mobile=r"1[3-9][0-9]{9}",
)
"""For writing that separates words by spaces."""


def _joined() -> _Edges:
    """Return the edges for any writing.

    Where words are not separated by spaces, or take articles and particles without one (Arabic, Hebrew, Korean), a
    letter that touches a number or an address is no part of it. Such letters are all that are not Latin, Greek,
    Cyrillic or Armenian. In an address they form names of their own, so that no other letters are taken with it.
    """
    joined = r"\u0590-\u1cff\u2e80-\ufefe\uff66-\uffdc\U00010000-\U0003ffff"
    word, other = rf"(?![{joined}])\w", rf"(?=[{joined}])\w"
    name, other_name = rf"(?:(?![{joined}])[\w-])+", rf"{other}(?:-|{other})*"
    letter, other_letter = rf"(?![{joined}])[^\W\d_]", rf"(?=[{joined}])[^\W\d_]"
    before, after = rf"(?<!{word})", rf"(?!{word})"
    enter, enter_other = rf"{before}(?<!-)", rf"(?<!{other})(?<!-)"
    part = rf"(?:(?![{joined}])[\w.+%-])+"
    ending = rf"(?:xn--[A-Za-z0-9]+|(?:{letter}){{2,24}}|(?:{other_letter}){{2,24}})"
    return _Edges(
        before=before,
        after=after,
        local=(
            rf"(?:{before}(?<![.+%-])(?<![.+%-]')(?<!(?![{joined}])\w'){part}(?:'{part})*"
            rf"|(?<!{other})(?<![.+%-]){other}(?:[.+%-]|{other})*)"
        ),
        # The second form is for names of both kinds of letters, whose end is then not known.
        domain=rf"(?:(?:(?:{name}|{other_name}){_DOT})+{ending}|(?:[\w-]+{_DOT})+{ending})",
        labels=(rf"(?<![\w-]\.)(?:{enter}(?=-|{word})|{enter_other}(?={other}))(?:(?:{name}|{other_name})\.)*"),
        letter_label=rf"(?:(?=[0-9_-]*{letter}){name}|{other_name})\.",
        marked_label=rf"(?:(?=(?:{letter})*[0-9-])(?=[0-9_-]*{letter}){name}|(?=(?:{other})+-){other_name})\.",
        beyond=rf"\u0e00-\u109f\u1780-\u17ff\u1950-\u1b7f{_IDEOGRAPHS}\uff66-\uffdc",
        no_amount="(?! ?[\u5143\u5706\u5713\u5186\uc6d0])",
        mobile=r"1[3-9](?![0-9]{0,3}0{6,8}(?![0-9]))[0-9]{9}|1[3-9][0-9][ -][0-9]{4}[ -][0-9]{4}",
    )


_AT = r"(?:@| ?[(\[] ?[Aa][Tt] ?[)\]] ?)"
_JOIN = r"(?: ?- ?|[ ./]| ?\(| ?\) ?-?)?"
"""What may stand between two digits of a number in international or national form."""
_GAP = r"(?: ?- ?|[ .])"
_NOT_ROUND = "(?![1-9][05]00)"
"""Excludes ranges and differences such as 200-1000."""
_DATE = r"(?:0?[1-9]|[12][0-9]|3[01])"


def _host(edges: _Edges, more: str, port: str) -> str:
    end = rf"{edges.after}(?!-)"
    words = f"{_WORDS} {_ENDINGS}"
    return (
        rf"{edges.labels}(?:"
        rf"(?<=k12\.)[a-z]{{2}}\.us{end}"
        rf"|{edges.letter_label}{_alternatives(_SECOND)}\.{_alternatives(f'{_COUNTRIES} {words}')}{end}"
        rf"|{edges.letter_label}(?:{_alternatives(_ANY_CASE, any_case=True)}|{_alternatives(_COUNTRIES)}){end}"
        rf"|{edges.marked_label}{_alternatives(_WORDS)}{end}"
        rf"|{edges.letter_label}{_alternatives(words)}(?={port}|/[\w~@?])"
        rf"){more}"
    )


def _number(edges: _Edges) -> str:
    formatted = (
        rf"{edges.before}(?<![)\]])\+[1-9](?:{_JOIN}[0-9]){{7,14}}"
        rf"|{edges.before}(?<![)\]])(?<![\w)\]] )\+ [1-9](?:{_JOIN}[0-9]){{7,14}}"
        rf"|(?:(?<![a-zA-Z])|{edges.before}(?<![0-9\]][-.:/])[18][ -]?)"
        r"\((?!(?:19|20)[0-9]{2}\))\+?[0-9]{2,5}\) ?-?[0-9](?:[ .-]?[0-9]){4,9}"
        rf"|{edges.before}(?<![0-9\]][-.])(?:1-)?[0-9]{{3}}-[0-9]{{3}}-?[0-9]{{4}}"
    )
    plain = (
        rf"(?<![0-9\]] )00[1-9](?:{_JOIN}[0-9]){{7,13}}"
        rf"|(?:1[ .])?[2-9][0-9]{{2}}{_GAP}[2-9][0-9]{{2}}{_GAP}{_NOT_ROUND}[0-9]{{4}}"
        r"|(?:1 ?)?[2-9][0-9]{2} ?[2-9][0-9]{2}-?[0-9]{4}"
        r"|(?=[01 ./-]{0,16}[2-9])0[1-9](?:(?: ?- ?|[ ./])?[0-9]){7,10}"
        rf"|{edges.mobile}"
        r"|[6-9][0-9]{4}[ -](?![0-9]{2}000)[0-9]{5}"
        rf"|[2-9][0-9]{{2}}-{_NOT_ROUND}[0-9]{{4}}(?!-[0-9]|-\Z)"
    )
    return (
        rf"(?:{formatted}|{edges.before}(?<![0-9\]][-.:/])(?:{plain}))"
        rf"{edges.after}(?!\.[0-9]{{1,9}}(?![0-9.-]))(?!:[0-9]{{1,2}}(?![0-9-])){edges.no_amount}"
    )


def _no_phone(edges: _Edges) -> str:
    begin = rf"{edges.before}(?<![.,])"
    return (
        rf"{edges.before}[Ii][Ss][BbSs][Nn](?:-1[03])?:? ?[0-9][0-9 -]{{6,15}}[0-9Xx]{edges.after}"
        rf"|{begin}(?:19|20)[0-9]{{2}}[-./](?:0?[1-9]|1[0-2])[-./]{_DATE}{edges.after}"
        rf"|{begin}{_DATE}[-./]{_DATE}[-./]"
        rf"(?:(?:19|20)[0-9]{{2}}{edges.after}|[0-9]{{2}}{edges.after}(?![-./][0-9]))"
        rf"|{edges.before}0?123456789[0]?{edges.after}"
        rf"|{begin}0,[0-9]+{edges.after}"
    )


def _one_pass(edges: _Edges, passes: int) -> RuleSet:
    def step(pattern: str, placeholder: str, sign: str, unchanged: str | None = None) -> Step:
        kept = re.compile(unchanged) if unchanged else None
        return Step(re.compile(pattern), placeholder, kept, folded=True, sign=re.compile(sign))

    # An address goes on with anything but white space, quotation marks and the letters of some scripts.
    apart = rf"\s<>\"\u201c\u201d\u201e\u00ab\u00bb{edges.beyond}"
    letters, ending = f"[^{apart}]", rf"[^{apart}.,;:!?'\u2026)\]}}]"
    port = rf":[0-9]{{2,5}}{edges.after}(?!-)(?!\.\w)"
    more = rf"(?:{port})?(?:[/?#](?:{letters}*{ending})?)?"
    web = rf"(?:[Hh][Tt][Tt][Pp][Ss]?://|[Ff][Tt][Pp][Ss]?://|{edges.before}[Ww][Ww][Ww][0-9]?\.){letters}*{ending}"
    addresses = (
        step(web, URL, "://|[Ww][Ww][Ww]"),
        step(f"{edges.local}{_AT}{edges.domain}", EMAIL, r"@|[Aa][Tt] ?[)\]]"),
    )
    asp = rf"{edges.before}(?:[Aa][Ss][Pp]|[VvAa][Bb])\.[Nn][Ee][Tt]{edges.after}"
    hosts = step(_host(edges, more, port), URL, r"[\w-]\.[A-Za-z]", asp)
    numbers = step(_number(edges), PHONE, r"[0-9](?:[ ()./-]{0,4}[0-9]){6}", _no_phone(edges))
    # Addresses are searched again after the project's ids, without which they may begin or end elsewhere.
    return RuleSet(addresses, (*addresses, hosts, numbers), folded=True, passes=passes, isolated=False)


# Version 3 repeats its pass where something changed: of three addresses that touch, one pass finds two.
RULE_SETS = {1: _version_1(), 2: _one_pass(_SPACED, passes=1), 3: _one_pass(_joined(), passes=8)}
"""The built-in patterns by version."""
