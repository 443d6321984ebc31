"""The labels of a column of codes: which spellings are one label, their order, and what looks wrong with them."""

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgedistill.data.given_tables import fold_code
from edgedistill_serve.task.task import LABEL_SEPARATOR, NO_LABEL, Kind, list_some, quote_label

_NUMBER = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?")
_SAME_MEANING = (
    ("correct", "right", "richtig", "korrekt", "correcto", "correcte", "juste", "certo", "giusto"),
    ("incorrect", "wrong", "false", "falsch", "incorrecto", "incorrecte", "faux", "errado", "sbagliato"),
    ("partial", "partially", "partially correct", "partly", "partly correct", "teilweise",
     "teilweise richtig", "parcial", "partiel", "parzialmente"),
    ("yes", "ja", "oui", "s\u00ed", "si", "sim"),
    ("no", "nein", "non", "n\u00e3o"),
    ("none", "keine", "aucun", "ninguno", "nenhum", "nessuno"),
    ("other", "sonstiges", "andere", "autre", "otro", "outro", "altro"),
    ("low", "niedrig", "faible", "bajo", "baixo", "basso"),
    ("medium", "mittel", "moyen", "medio", "m\u00e9dio"),
    ("high", "hoch", "\u00e9lev\u00e9", "alto"),
)  # fmt: skip
"""Usual labels that mean the same in English, German, French, Spanish, Portuguese and Italian."""
_FEW = 5


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """The labels of a column.

    Attributes:
        kind: Of the task: ``ordinal`` if all labels are numbers and there are three or more, ``multilabel`` if cells
            name several labels, otherwise ``nominal``.
        counts: Rows by label, in the order of the codebook: numbers ascending, others from the most frequent one.
        spellings: By label, its other spellings with their rows.
    """

    kind: Kind
    counts: Mapping[str, int]
    spellings: Mapping[str, Mapping[str, int]]

    @property
    def is_folded(self) -> bool:
        """Whether a label has several spellings, or spaces around it."""
        return any(self.spellings.values())


def count_labels(cells: Iterable[str], kind: Kind | None = None) -> LabelCounts:
    """Count labels; spellings that `fold_code` does not distinguish are one label, in its most frequent spelling.

    Args:
        cells: The cells; blank ones are no labels.
        kind: The kind of the task; None to find it.
    """
    texts = [cell.strip() for cell in cells if cell.strip()]
    kind = kind or ("multilabel" if _names_several(texts) else None)
    if kind == "multilabel":
        texts = [part.strip() for cell in texts for part in cell.split(LABEL_SEPARATOR) if part.strip()]
        texts = [each for each in texts if each.casefold() != NO_LABEL]
    by_fold: dict[str, Counter[str]] = {}
    for text in texts:
        by_fold.setdefault(fold_code(text), Counter())[text] += 1
    found: dict[str, Counter[str]] = {}
    for spellings in by_fold.values():
        best = min(
            spellings, key=lambda each: (-spellings[each], unicodedata.normalize("NFC", each) != each, len(each), each)
        )
        found[best] = spellings
    numbers = [_NUMBER.fullmatch(label) is not None for label in found]
    if numbers and all(numbers):
        order = sorted(found, key=lambda label: (float(label.replace(",", ".")), label))
    else:
        order = sorted(found, key=lambda label: (-found[label].total(), label))
    kind = kind or ("ordinal" if len(found) > 2 and all(numbers) else "nominal")
    return LabelCounts(
        kind,
        {label: found[label].total() for label in order},
        {label: {text: n for text, n in found[label].most_common() if text != label} for label in order},
    )


def _names_several(texts: Sequence[str]) -> bool:
    """Return whether cells name several labels: parts between semicolons that occur alone or in other cells, too."""
    several = {text for text in texts if LABEL_SEPARATOR in text}
    parts = Counter(fold_code(part) for text in set(texts) for part in text.split(LABEL_SEPARATOR) if part.strip())
    return len(several) > 1 and len(parts) >= 2 and max(parts.values()) > 1 and len(parts) <= max(2, len(set(texts)))


def describe_labels(found: LabelCounts) -> Iterator[str]:
    """Yield what a person should know about labels: counts, spellings that are one label, and what looks wrong."""
    if found.is_folded:
        spellings = sum(1 + len(others) for others in found.spellings.values())
        yield (
            f"{spellings} spellings, some of which differ only in case, spaces, Unicode form (NFC, NFD) or as 1.0 from "
            f"1, are read as one label each: {len(found.counts)} labels"
        )
    for first, second in _near(list(found.counts)):
        yield f"{quote_label(first)} and {quote_label(second)} look alike; if they are one label, correct the cells"
    pairs = list(_same_meaning(list(found.counts)))
    for first, second in pairs:
        yield (
            f"{quote_label(first)} and {quote_label(second)} look like one label in two languages; if so, replace "
            "one of them in the table"
        )
    if found.kind != "ordinal" and len(found.counts) > 2 and not all(map(_NUMBER.fullmatch, found.counts)):
        apart = "apart from these, " if pairs else ""
        yield (
            f"{apart}the {len(found.counts)} labels differ in meaning, which cannot be checked here; if two mean "
            "the same, such as in two languages, replace one of them in the table"
        )
    if few := [label for label, count in found.counts.items() if count < _FEW]:
        listed = list_some(f"{quote_label(label)} ({found.counts[label]})" for label in few)
        yield f"few rows: {listed}; a label with fewer than {_FEW} rows can hardly be learned or measured"


def _near(labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    for place, label in enumerate(labels):
        if len(label) >= 5 and not _NUMBER.fullmatch(label):
            for other in difflib.get_close_matches(
                fold_code(label), list(map(fold_code, labels[place + 1 :])), 1, 0.88
            ):
                second = next(each for each in labels[place + 1 :] if fold_code(each) == other)
                if not _differ_by_a_word(fold_code(label), other):
                    yield label, second


def _differ_by_a_word(first: str, second: str) -> bool:
    """Return whether one text is the other with a prefix such as ``in``, which negates it, or a number."""
    if first.endswith(second) or second.endswith(first):
        return True
    return re.sub(r"[0-9]+", "", first) == re.sub(r"[0-9]+", "", second)


def _same_meaning(labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    folded = {fold_code(label): label for label in labels}
    for words in _SAME_MEANING:
        found = [folded[word] for word in words if word in folded]
        yield from ((found[0], other) for other in found[1:])
