"""When two texts are the same to a student, and when they are nearly the same; decision 0035.

fold_text(text)              a text without case, accents, invisible characters and extra white space
same_text(text)              its key: equal keys are the same text
same_row(inputs)             the key of a row: the same response to another question is another row
same_group(group)            the key of a group, such as a learner
find_similar_pairs(…)        all pairs of similar texts
find_twins(…)                for each row, the same or the most similar row among others
find_split_twins(…)          the rows that the splits of one project share

Folding is at least as coarse as what the tokenizers of the supported backbones do to a text before they cut it into
tokens, cased or not. So it needs no tokenizer, and the splits of a project do not depend on its backbone. What a
tokenizer merges on top of that, such as two emoji that are both unknown to it, is found where the student's tokenizer
is at hand, by comparing token ids (stages `mix` and `evaluate`).
"""

import html
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgedistill_serve.task.visible_text import SPACES

if TYPE_CHECKING:  # a stage that compares nothing should not load scipy
    from scipy.sparse import csr_array

Inputs: TypeAlias = Mapping[str, str]
"""The inputs of a row, in the task's order."""

NEAR_DUPLICATE = 0.8
"""The similarity from which two texts are nearly the same, unless `generate.near_duplicate` sets another one."""

_MARKS_AND_CONTROLS = "MC"  # combining marks; control, format, surrogate, private and unassigned characters
_REMOVED = "\ufffd"  # the replacement character, which BERT's tokenizers drop
_SPACES = {ord("\u2581"): " "}  # SentencePiece writes spaces so
_PUNCTUATION_AT_ENDS = " .,;:!?\"'`()[]\u2018\u2019\u201c\u201d\u00ab\u00bb\u00bf\u00a1\u2026\u3002\u3001"
_BLOCK = 512  # texts compared with all others at a time: bounds the memory of one product
_CHARACTERS_PER_PART = 4_000_000  # of texts indexed at a time, at about 60 bytes each
_TRIGRAMS_PER_BLOCK = 4_000_000  # of pairs verified at a time
_LARGEST_TABLE = 2**24  # of numbers of trigrams: 128 MiB


def fold_text(text: str) -> str:
    r"""Return a text without case, accents, invisible characters and extra white space.

    Compatibility characters, such as full-width letters, become their plain forms (Unicode NFKD).

    Example:
        fold_text("\ufeffTR\u00c8S\u200b  bien") == "tres bien"
    """
    if text.isascii():
        folded = text.lower()
        return " ".join((folded if folded.isprintable() else _without_controls(folded)).split())
    folded = _decompose(_decompose(text.translate(_SPACES)).casefold())
    return " ".join(folded.split())


def _decompose(text: str) -> str:
    return _without_controls(unicodedata.normalize("NFKD", text))


def _without_controls(text: str) -> str:
    removed = [character for character in set(text) if _is_removed(character)]
    return text.translate(dict.fromkeys(map(ord, removed))) if removed else text


def _is_removed(character: str) -> bool:
    return not character.isspace() and (
        unicodedata.category(character)[0] in _MARKS_AND_CONTROLS
        or character == _REMOVED
        or SPACES.match(character) is not None  # letters without ink, such as the Hangul filler
    )


def same_text(text: str) -> str:
    """Return the key of a text: two texts with the same key are the same to every supported student.

    Spaces do not count: some tokenizers replace invisible characters by a space and others remove them, and most ignore
    the space before a punctuation mark.
    """
    return fold_text(text).replace(" ", "")


def same_row(inputs: Inputs) -> tuple[str, ...]:
    """Return the key of a row: all its inputs, so that the same response to another question is another row."""
    return _row_key(tuple(inputs.values()))


@lru_cache(maxsize=4096)  # the examples of a prompt are compared with every response
def _row_key(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(same_text, texts))


def same_group(group: str | None) -> str | None:
    """Return the key of a group; None if there is none.

    Groups are compared over files of different formats, where the learner 7 may be `7`, `7.0` (a column of numbers in
    which one is missing) or full-width.

    Example:
        same_group("7.0") == same_group(" 7\u200b") == "7"
    """
    folded = fold_text(group or "")
    number = re.fullmatch(r"(-?[0-9]+)\.0+", folded)
    return (number[1] if number else folded) or None


def find_similar_pairs(
    texts: Sequence[str], others: Sequence[str], at_least: float
) -> Iterator[tuple[int, int, float]]:
    """Yield all pairs of similar texts, by the Jaccard similarity of their character trigrams (Broder 1997).

    Texts are folded, without HTML and without punctuation at their ends, so that "Yes.", "yes!" and "<p>yes</p>" are
    similar, too. A space is added
    before and after each text, so that first and last words count like others.
    The pairs are exact. Only pairs that share one of the rarest trigrams of both are compared (prefix filtering;
    Bayardo, Ma and Srikant 2007), which makes this fast for many texts.

    Args:
        texts: n texts.
        others: m texts; may be `texts` itself, then every text is similar to itself.
        at_least: Similarity in (0, 1].

    Yields:
        Index in `texts`, index in `others`, similarity; ordered by the first, then the second.
    """
    compared = [_compared_text(text) for text in texts]
    others_compared = compared if others is texts else [_compared_text(text) for text in others]
    for rows, columns, similarity in _similar_blocks(compared, others_compared, at_least):
        yield from zip(rows.tolist(), columns.tolist(), similarity.tolist(), strict=True)


def _similar_blocks(
    texts: Sequence[str],
    others: Sequence[str],
    at_least: float,
    groups: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None = None,
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
    """Yield the pairs of `find_similar_pairs`, as arrays for some texts at a time; memory does not grow with all texts.

    Args:
        texts: As `_compared_text` returns them.
        others: Likewise.
        at_least: Similarity in (0, 1].
        groups: A number for each text and each other text; only pairs with the same number are compared.
    """
    if not texts or not others:
        return
    # The others are indexed again for every part, so a part is at least as large as they are.
    size = max(_CHARACTERS_PER_PART, sum(map(len, others)))
    ends = np.cumsum([len(text) + 2 for text in texts])
    start = 0
    while start < len(texts):
        end = max(start + 1, int(np.searchsorted(ends, (ends[start - 1] if start else 0) + size, "right")))
        of_part = None if groups is None else (groups[0][start:end], groups[1])
        for rows, columns, similarity in _similar_in_part(texts[start:end], others, at_least, of_part):
            yield rows + start, columns, similarity
        start = end


def _similar_in_part(
    texts: Sequence[str],
    others: Sequence[str],
    at_least: float,
    groups: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] | None,
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
    left, right = _trigrams(texts, others)
    left_sizes, right_sizes = np.diff(left.indptr), np.diff(right.indptr)
    rare_left, rare_right = _rarest(left, at_least), _rarest(right, at_least)
    columns_of = rare_right.T.tocsr()
    frequency = np.bincount(right.indices, minlength=right.shape[1])
    transposed: csr_array | None = None
    for start in range(0, len(texts), _BLOCK):
        block = slice(start, start + _BLOCK)
        candidates = (rare_left[block] @ columns_of).tocoo()
        rows, columns = candidates.row.astype(np.int64) + start, candidates.col.astype(np.int64)
        sizes = left_sizes[rows] + right_sizes[columns]
        # |a ∩ b| ≤ min(|a|, |b|), so sizes that differ too much rule a pair out.
        possible = np.minimum(left_sizes[rows], right_sizes[columns]) >= (at_least - 1e-9) / (1 + at_least) * sizes
        if groups is not None:
            possible &= groups[0][rows] == groups[1][columns]
        rows, columns, sizes = rows[possible], columns[possible], sizes[possible]
        if sizes.sum() > frequency[left[block].indices].sum():  # long texts of one language share their rare trigrams
            transposed = right.T.tocsr() if transposed is None else transposed
            shared = np.asarray((left[block] @ transposed).todense())[rows - start, columns]
        else:
            shared = _count_shared(left, right, rows, columns, sizes)
        similarity = shared / (sizes - shared)
        similar = np.flatnonzero(similarity >= at_least)
        similar = similar[np.lexsort((columns[similar], rows[similar]))]
        yield rows[similar], columns[similar], similarity[similar]


def _count_shared(
    left: "csr_array",
    right: "csr_array",
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Return the number of trigrams that each pair shares."""
    part = np.cumsum(sizes) // _TRIGRAMS_PER_BLOCK
    cuts = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(rows)]
    counts = [
        np.asarray((left[rows[start:end]] * right[columns[start:end]]).sum(axis=1)).ravel()
        for start, end in pairwise(cuts)
    ]
    return np.concatenate([np.zeros(0, np.int64), *counts])


_TAGS = re.compile(
    r"</?(?:p|br|hr|div|span|font|strong|em|sub|sup|ul|ol|li|pre|code|blockquote|img|table|tbody|tr|td|th|h[1-6])"
    r"(?:[\s/][^<>]*)?>",
    re.IGNORECASE,
)
"""HTML tags. Those of one letter are not among them, but for the paragraph: ``a<b, c>d`` has none."""


def _compared_text(text: str, folded: str | None = None) -> str:
    """Return a response as it is compared for similarity: folded, without HTML, and without punctuation at its ends."""
    if "<" in text or "&" in text:  # one export of a learning platform has HTML, and another one has not
        plain = fold_text(html.unescape(_TAGS.sub(" ", html.unescape(text))))
        folded = plain or folded
    if folded is None:
        folded = fold_text(text)
    return folded.strip(_PUNCTUATION_AT_ENDS) or folded


def _trigrams(texts: Sequence[str], others: Sequence[str]) -> tuple["csr_array", "csr_array"]:
    """Return which text has which trigram; the columns are the trigrams, the rarest first."""
    from scipy.sparse import csr_array

    padded = [f" {text or ' '} " for text in (*texts, *others)]
    codes = np.frombuffer("".join(padded).encode("utf-32-le"), np.uint32)
    lengths = np.fromiter(map(len, padded), np.int64, len(padded))
    row = np.repeat(np.arange(len(padded)), lengths)
    inside = row[:-2] == row[2:]
    letters, letter = _number(codes, sys.maxunicode + 1)
    gram = ((letter[:-2] * letters + letter[1:-1]) * letters + letter[2:])[inside]
    grams, gram = _number(gram, letters**3)
    pairs = np.sort(row[:-2][inside] * grams + gram)  # np.unique hashes first, which takes three times as long
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]
    row, gram = pairs // grams, pairs % grams
    rank = np.empty(grams, np.int64)
    rank[np.argsort(np.bincount(gram), kind="stable")] = np.arange(grams)
    matrix = csr_array(
        (np.ones(len(pairs), np.int32), rank[gram], np.searchsorted(row, np.arange(len(padded) + 1))),
        shape=(len(padded), grams),
    )
    matrix.sort_indices()
    return matrix[: len(texts)], matrix[len(texts) :]


def _number(values: npt.NDArray[Any], bound: int) -> tuple[int, npt.NDArray[np.int64]]:
    """Number the distinct values below a bound from 0; return how many there are, and the number of each value."""
    if bound > _LARGEST_TABLE:  # texts of several thousand different characters, such as Chinese
        distinct, numbers = np.unique(values, return_inverse=True)
        return len(distinct), numbers
    number = np.zeros(bound, np.int64)
    number[values] = 1
    np.cumsum(number, out=number)
    return int(number[-1]), number[values] - 1


def _rarest(matrix: "csr_array", at_least: float) -> "csr_array":
    """Return the matrix with only so many of the rarest trigrams of each text that similar texts must share one."""
    from scipy.sparse import csr_array

    sizes = np.diff(matrix.indptr)
    kept = sizes - np.ceil(at_least * sizes - 1e-9).astype(np.int64) + 1
    place = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], sizes)
    chosen = place < np.repeat(kept, sizes)
    indptr = np.concatenate([[0], np.cumsum(np.minimum(kept, sizes))])
    return csr_array((matrix.data[chosen], matrix.indices[chosen], indptr), shape=matrix.shape)


@dataclass(frozen=True, slots=True)
class Twin:
    """The row among others that a row repeats.

    Attributes:
        index: Its index among the others.
        same: Whether both are the same to the student; otherwise they are nearly the same.
        similarity: Of the responses, in (0, 1].
    """

    index: int
    same: bool
    similarity: float


def find_twins(rows: Sequence[Inputs], others: Sequence[Inputs], near: float = NEAR_DUPLICATE) -> dict[int, Twin]:
    """Return, by the index of a row, the first other row that is the same, or else the most similar one.

    Rows are nearly the same if their responses are, and everything else is the same: the question and the reference
    answer are part of what the student reads.

    Args:
        rows: Inputs of rows.
        others: Inputs of other rows.
        near: Similarity in (0, 1] from which two responses are nearly the same.
    """
    first: dict[tuple[str, ...], int] = {}
    compared: dict[_Compared, int] = {}  # the first of the others with this context and this text
    for index, inputs in enumerate(others):
        key, comparison = _keys(inputs)
        first.setdefault(key, index)
        compared.setdefault(comparison, index)
    twins: dict[int, Twin] = {}
    unmatched: dict[_Compared, list[int]] = {}  # a text that occurs many times is compared once
    for index, inputs in enumerate(rows):
        key, comparison = _keys(inputs)
        if (other := first.get(key)) is None:
            unmatched.setdefault(comparison, []).append(index)
        else:
            twins[index] = Twin(other, True, 1.0)
    for comparison, (place, similarity) in _find_nearest(list(unmatched), list(compared), near).items():
        twin = Twin(compared[place], False, similarity)
        twins |= dict.fromkeys(unmatched[comparison], twin)
    return twins


_Compared: TypeAlias = tuple[tuple[str, ...], str]
"""The key of a row's context, and its response as it is compared."""


def _keys(inputs: Inputs) -> tuple[tuple[str, ...], _Compared]:
    """Return a row's `same_row`, and what tells whether it is nearly the same as another; each text is folded once."""
    folded = {name: fold_text(text) for name, text in inputs.items()}
    key = {name: text.replace(" ", "") for name, text in folded.items()}
    context = tuple(text for name, text in key.items() if name != "response")
    return tuple(key.values()), (context, _compared_text(inputs["response"], folded["response"]))


def _find_nearest(
    rows: Sequence[_Compared], others: Sequence[_Compared], near: float
) -> dict[_Compared, tuple[_Compared, float]]:
    """Return, for each row that is near another one of its context, the first of the most similar ones."""
    numbers: dict[tuple[str, ...], int] = {}
    groups = [np.array([numbers.setdefault(context, len(numbers)) for context, _ in each]) for each in (rows, others)]
    texts, of_others = ([text for _, text in each] for each in (rows, others))
    nearest: dict[_Compared, tuple[_Compared, float]] = {}
    for found, columns, similarity in _similar_blocks(texts, of_others, near, (groups[0], groups[1])):
        order = np.lexsort((columns, -similarity, found))
        _, at = np.unique(found[order], return_index=True)
        for index in order[at].tolist():
            nearest[rows[found[index]]] = others[columns[index]], float(similarity[index])
    return nearest


@dataclass(frozen=True, slots=True)
class SplitTwins:
    """Ids of the rows that repeat a row of an earlier split; a row is in at most one tuple of its split.

    Attributes:
        test_same: Test rows that are the same as a train or validation row.
        test_near: Test rows that are nearly the same as one, and the same as none.
        validation_same: Validation rows that are the same as a train row.
        validation_near: Validation rows that are nearly the same as one, and the same as none.
    """

    test_same: tuple[str, ...] = ()
    test_near: tuple[str, ...] = ()
    validation_same: tuple[str, ...] = ()
    validation_near: tuple[str, ...] = ()


IdsAndInputs: TypeAlias = Sequence[tuple[str, Inputs]]


def find_split_twins(
    train: IdsAndInputs, validation: IdsAndInputs, test: IdsAndInputs, near: float = NEAR_DUPLICATE
) -> SplitTwins:
    """Return which rows of a project's splits are the same or nearly the same as rows of an earlier split.

    Args:
        train: Id and inputs of each row.
        validation: Likewise.
        test: Likewise.
        near: See `find_twins`.
    """
    of_test = _ids(test, (*train, *validation), near)
    of_validation = _ids(validation, train, near)
    return SplitTwins(*of_test, *of_validation)


def _ids(rows: IdsAndInputs, others: IdsAndInputs, near: float) -> Iterable[tuple[str, ...]]:
    twins = find_twins([inputs for _, inputs in rows], [inputs for _, inputs in others], near)
    for same in (True, False):
        yield tuple(ident for index, (ident, _) in enumerate(rows) if index in twins and twins[index].same is same)
