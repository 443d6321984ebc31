"""Parses an answer to labels, and to their probabilities if the endpoint returned log probabilities.

It parses the raw answers in the cache, so an improved parser can parse paid answers again for free. What counts is that
an answer is unmistakable, not its form: JSON objects with text or a code fence around them, with a trailing comma or
other quotes; a bare label; a sentence that states one; reasoning before any of these. An answer that names two labels,
negates one, or only repeats the options gives none.

A label's probability is the product over *all* tokens of the generated label, up to and including the closing quote:
without the quote, ``process`` could not be distinguished from ``process_specific``. At each of these tokens the
endpoint also lists the most likely alternatives. An alternative that leads to exactly one label adds the probability of
its branch to that label; one that could still become several labels adds to none. The sums are then normalised over the
labels with a sum. If only the generated label has one, it keeps its probability and the other labels share the rest
evenly.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from edgedistill.teacher.matching import find_stated_label, match_label, match_labels, names_another, text_of
from edgedistill.teacher.strict_json import InvalidJson, read_json


class FailureCause(StrEnum):
    """Why a response has no label: the fixed phrases in reports and in the failure log."""

    REFUSED = "the teacher refused to answer"
    TRUNCATED = "the teacher's answer was cut short"
    EMPTY = "the teacher's answer was empty"
    ONLY_REASONING = "the teacher only reasoned (raise max_output_tokens, or turn off the model's reasoning)"
    UNREADABLE = "the teacher's answer could not be read"
    NO_SUCH_LABEL = "the teacher's answer is not a label of the codebook"
    NOT_RECORDED = "the recorded teacher has no answer"
    REJECTED = "the endpoint rejected the request"
    FILTERED = "the endpoint's content filter refused the response"
    RATE_LIMITED = "the endpoint allowed no more requests"
    SERVER_ERROR = "the endpoint failed"
    TIMED_OUT = "the endpoint took too long"
    DROPPED = "the connection broke"
    TIE = "the votes tie"
    TEACHERS_TIE = "the teachers tie"
    NO_TEACHER = "no teacher labelled it"
    NO_TEXT = "it contains characters that are not text"


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without a usable answer.

    Attributes:
        cause: The cause.
        raw: The endpoint's reply as text; empty if there was none.
        code: The HTTP status or the endpoint's own code, if there is one.
        key: The key of the request; empty before it is in the failure log.
    """

    cause: FailureCause
    raw: str = field(default="", repr=False)
    code: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class CodedObject:
    """A JSON object of an answer that names a label.

    Attributes:
        ident: Its id as text; None if it has none.
        named: The value of its label or labels.
        confidence: The value of its confidence; None if it has none.
    """

    ident: str | None
    named: object = field(repr=False)
    confidence: object = field(default=None, repr=False)


_CONFIDENCE_LINE = re.compile(r"[\W_]{0,10}(?:my )?confidence(?: is)?\b[\W_]{0,10}(.{0,30})", re.IGNORECASE)
_PERCENT = re.compile(r"([0-9]{1,3})\s*(?:%|percent)?[\W_]{0,5}", re.IGNORECASE)


def read_confidence(value: object) -> float | None:
    """Return a stated confidence in [0, 1]; None for anything but a whole number from 0 to 100.

    Numbers such as 0.9 are not read: it is unclear whether they are shares or percent.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 100:
        return None
    return value / 100


def split_confidence(text: str) -> tuple[str, float | None]:
    """Split a text without JSON into the text without its lines on the confidence, and the confidence.

    The confidence is None if no line states it as a whole number from 0 to 100, or if several lines are about it.
    """
    rest, stated = [], []
    for line in text.splitlines():
        found = _CONFIDENCE_LINE.fullmatch(line.strip())
        if found:
            stated.append(_PERCENT.fullmatch(found[1]))
        else:
            rest.append(line)
    percent = stated[0] if len(stated) == 1 else None
    return "\n".join(rest).strip(), read_confidence(int(percent[1])) if percent else None


def parse_confidence(answer: Mapping[str, Any], *, several: bool = False) -> float | None:
    """Return the confidence in a chat completion on one response, in [0, 1]; None if none is stated unmistakably.

    Args:
        answer: The whole chat completion.
        several: Whether the task is multilabel.
    """
    content = extract_text(answer)
    found = None if isinstance(content, Failure) else find_objects(content)
    if isinstance(content, Failure) or found is None:
        return None
    if not found.objects:
        return split_confidence(content)[1]
    stated = {read_confidence(coded.confidence) for coded in find_coded(found.objects, several=several)}
    return stated.pop() if len(stated) == 1 else None


def _extract_text_of_label(answer: Mapping[str, Any], *, confidence: bool) -> str | Failure:
    """Return the text of a chat completion, without the lines on the confidence if it has no JSON."""
    content = extract_text(answer)
    if isinstance(content, Failure) or not confidence or "{" in content:
        return content
    return split_confidence(content)[0] or content


def parse_label(
    answer: Mapping[str, Any], labels: Sequence[str], *, after_reason: bool = False, confidence: bool = False
) -> str | Failure:
    """Return the label in a chat completion.

    The answer must be the label, or hold JSON objects that all name the same label, or state one label in words; see
    `find_stated_label`.

    Args:
        answer: The whole chat completion.
        labels: The codebook's labels.
        after_reason: Whether a reason was requested before the label.
        confidence: Whether a confidence was requested after it.
    """
    content = _extract_text_of_label(answer, confidence=confidence)
    if isinstance(content, Failure):
        return content
    if label := match_label(content, labels):
        return label
    found = find_objects(content)
    if found is None:
        return unusable_answer(FailureCause.UNREADABLE, answer)
    if not found.objects:
        label = find_stated_label(content, labels, after_reason=after_reason)
        return label or unusable_answer(FailureCause.UNREADABLE, answer)
    texts = [label_text(coded.named, labels) for coded in find_coded(found.objects)]
    if not texts or None in texts:
        return unusable_answer(FailureCause.UNREADABLE, answer)
    matched = {match_label(text, labels) for text in texts if text is not None}
    if matched == {None}:
        return unusable_answer(FailureCause.NO_SUCH_LABEL, answer)
    label = matched.pop()
    if label is None or matched or names_another(found.after, label, labels):
        return unusable_answer(FailureCause.UNREADABLE, answer)
    return label


def parse_labels(
    answer: Mapping[str, Any], labels: Sequence[str], *, after_reason: bool = False, confidence: bool = False
) -> str | Failure:
    """Return the labels in a chat completion for a multilabel task, joined; see `match_labels`.

    Args:
        answer: The whole chat completion.
        labels: The codebook's labels.
        after_reason: Whether a reason was requested before the labels.
        confidence: Whether a confidence was requested after them.
    """
    content = _extract_text_of_label(answer, confidence=confidence)
    if isinstance(content, Failure):
        return content
    found = find_objects(content)
    if found is None:
        return unusable_answer(FailureCause.UNREADABLE, answer)
    if not found.objects:
        joined = _stated_labels(content, labels, after_reason=after_reason)
        return joined or unusable_answer(FailureCause.UNREADABLE, answer)
    coded = find_coded(found.objects, several=True)
    matches = {match_labels(each.named, labels) for each in coded}
    if matches == {None}:
        readable = all(isinstance(each.named, str | list) for each in coded)
        return unusable_answer(FailureCause.NO_SUCH_LABEL if readable else FailureCause.UNREADABLE, answer)
    one = matches.pop() if len(matches) == 1 else None
    return one or unusable_answer(FailureCause.UNREADABLE, answer)


_LABELS_LINE = re.compile(r"[\W_]{0,10}labels?\b[\W_]{0,10}?[:=](.*)", re.IGNORECASE)


def _stated_labels(content: str, labels: Sequence[str], *, after_reason: bool) -> str | None:
    try:
        value = read_json(content)
    except InvalidJson:
        value = content
    if not after_reason and (joined := match_labels(value, labels)):
        return joined
    lines = [line for line in content.splitlines() if line.strip()]
    listed = [named[1] for line in (lines[-1:] if after_reason else lines) if (named := _LABELS_LINE.match(line))]
    if after_reason and not listed:
        listed = lines[-1:]
    if len(listed) != 1:
        return None
    joined = match_labels(listed[0].strip(), labels)
    has_marks = any(label.strip("*_") != label for label in labels)
    return joined if joined or has_marks else match_labels(listed[0].strip().strip("*_"), labels)


def label_text(named: object, labels: Sequence[str]) -> str | None:
    """Return the one label in a value as text: of a list of one, or of an object around it.

    ``true``, ``false`` and ``null`` count only where a label is spelled so; ``null`` is ``None`` in Python.
    """
    for _ in range(_MOST_WRAPPINGS):
        if isinstance(named, list) and len(named) == 1:
            named = named[0]
        elif isinstance(named, dict) and len(named) == 1 and _fold_name(next(iter(named))) in _VALUE_NAMES:
            named = next(iter(named.values()))
    if named is None:
        return next((label for label in labels if label in ("null", "None")), None)
    text = text_of(named)
    return None if isinstance(named, bool) and not match_label(text or "", labels) else text


_MOST_WRAPPINGS = 4
_VALUE_NAMES = frozenset({"label", "value", "name", "text", "answer"})


def find_coded(objects: Sequence[object], *, several: bool = False) -> list[CodedObject]:
    """Return the objects that name a label, in their order, however deep they are in others.

    An object whose every name looks like the id of a response, with a label or such an object as its value, counts as
    one for each id.

    Args:
        objects: JSON values.
        several: Whether ``labels`` goes before ``label``, as in a multilabel task.
    """
    names = ("labels", "label") if several else ("label", "labels")
    coded: list[CodedObject] = []
    waiting = list(reversed(objects))
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += reversed(value)
        elif isinstance(value, dict):
            folded = [(_fold_name(name), entry) for name, entry in value.items()]
            ident = next((text_of(entry) for name, entry in folded if name == "id"), None)
            named = next(filter(None, ([entry for name, entry in folded if name == each] for each in names)), [])
            stated = next((entry for name, entry in folded if name == "confidence"), None)
            coded += [CodedObject(ident, entry, stated) for entry in named]
            if named:
                continue
            if folded and all(ID.fullmatch(name) for name, _ in folded):
                coded += [_coded_under(name, entry, several=several) for name, entry in folded]
            else:
                waiting += reversed([entry for _, entry in folded])
    return coded


def _coded_under(ident: str, value: object, *, several: bool) -> CodedObject:
    inner = find_coded([value], several=several) if isinstance(value, dict) else []
    return replace(inner[0], ident=ident) if len(inner) == 1 else CodedObject(ident, value)


ID = re.compile(r"[a-z][0-9]{2,4}")
"""The ids of responses in requests with several."""


def _fold_name(name: str) -> str:
    return name.strip(" \t\n\"'`*_:\u201c\u201d").casefold()


@dataclass(frozen=True, slots=True)
class FoundObjects:
    """The JSON objects of a text, in their order.

    Attributes:
        objects: Their values.
        after: The text after the last one.
    """

    objects: tuple[dict[str, Any], ...] = field(repr=False)
    after: str = field(repr=False)


_WORDS_OF_TOKENS = (
    r"bos|eos|pad|unk|mask|sep|cls|s|eo[a-z]|so[ph]|eostr|(?:start|begin|end)_?of_?\w+|endoftext|startoftext|im_\w+|"
    r"tool_calls?|tool_response|function_calls?|think(?:ing)?|fim_\w+|"
    r"reserved(?:_special_token)?_\d+|unused_?\d+|tokens_unused_\d+|extra_id_\d+"
)
CONTROL_TOKEN = re.compile(
    r"<\s*+[|\uff5c][^<>|\uff5c\n]{1,64}[|\uff5c]\s*+>"  # <|im_end|>, <|eot_id|>, DeepSeek's with full-width bars
    r"|<\s*+[|\uff5c]\w{1,32}>|<\w{1,32}[|\uff5c]>"  # <|turn>, <turn|>
    rf"|<\s*+(?:/\s*+)?(?:\w{{1,12}}:)?(?:{_WORDS_OF_TOKENS})(?:_token)?\s*+>"  # </s>, <start_of_turn>, <seed:eos>
    r"|<<\s*+(?:/\s*+)?sys\s*+>>"
    r"|\[\s*+(?:/\s*+)?(?:inst|system_prompt|available_tools|tool_calls|tool_results|tool_content|model_settings|"
    r"call_id|think|[gs]mask)\s*+\]"
    r"|\[\|[^\[\]|\n]{1,64}\|\]"  # [|assistant|]
    r"|\]~!?b[\[\]]|\[e~\[",  # MiniMax
    re.IGNORECASE,
)
"""The tokens with which chat templates begin and end turns, as text: an endpoint may read them as tokens."""

_STRUCTURE = re.compile(r'["{}]|\\.', re.DOTALL)


def find_objects(text: str) -> FoundObjects | None:
    """Find the JSON objects in a text, whatever is around them; objects in others do not count.

    A trailing comma, single or typographic quotes, Python's constants, backslashes that JSON does not have, and doubled
    braces are read as what they stand for. Braces with
    other content, such as ``{1, 2}``, are text.

    Returns:
        The objects; None if one is not complete, or is not JSON although it names a label.
    """
    spans = _find_spans(text)
    if spans is None:
        return None
    objects = []
    for start, stop in spans:
        value = _read_object(text[start:stop])
        if value is not None:
            objects.append(value)
        elif "label" in text[start:stop].casefold():
            return None
    return FoundObjects(tuple(objects), text[spans[-1][1] :] if spans else "")


def _find_spans(text: str) -> list[tuple[int, int]] | None:
    """Return where each pair of braces that is in no other begins and ends; None if a brace is not closed."""
    open_braces: list[int] = []
    spans: list[tuple[int, int]] = []
    quoted = False
    for found in _STRUCTURE.finditer(text):
        mark = found[0]
        if mark == '"':
            quoted = bool(open_braces) and not quoted  # quotes outside of braces are those of prose
        elif mark == "{" and not quoted:
            open_braces.append(found.start())
        elif mark == "}" and open_braces and not quoted:
            start = open_braces.pop()
            while spans and spans[-1][0] > start:
                spans.pop()
            spans.append((start, found.end()))
    return None if open_braces else spans


_TRAILING_COMMA = re.compile(r'(\\.|"(?:[^"\\]|\\.)*+")|,(?=\s*+[}\]])', re.DOTALL)
_STRAIGHT = str.maketrans(dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"'))
_QUOTE_CLASS = "[\"'`\u2018\u2019]"
_ONE_ENTRY = re.compile(
    rf"\{{\s*+{_QUOTE_CLASS}?(\w{{1,20}}){_QUOTE_CLASS}?\s*+:\s*+"
    rf"(?:({_QUOTE_CLASS})([^\"'`{{}}]{{1,300}}){_QUOTE_CLASS}|([\w ]{{1,300}}))\s*+,?\s*+\}}"
)


def drop_trailing_commas(text: str) -> str:
    """Return JSON without the commas before a closing brace or bracket."""
    return _TRAILING_COMMA.sub(r"\1", text)


_STRING_OR_CONSTANT = re.compile(r"""\\.|"((?:[^"\\]|\\.)*+)"|'((?:[^'\\]|\\.)*+)'|\b(None|True|False)\b""", re.DOTALL)
_ESCAPE_OR_QUOTE = re.compile(r"""(\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt]))|\\?(['"])|\\""")
_CONSTANTS = {"None": "null", "True": "true", "False": "false"}


def _as_json(text: str) -> str:
    r"""Return as JSON an object that Python wrote, or that has backslashes that JSON does not have, as in ``\(x\)``."""

    def spell(found: re.Match[str]) -> str:
        double, single, constant = found.groups()
        if constant:
            return _CONSTANTS[constant]
        inner = single if double is None else double
        return found[0] if inner is None else f'"{_ESCAPE_OR_QUOTE.sub(spell_escape, inner)}"'

    def spell_escape(found: re.Match[str]) -> str:
        valid, quote = found.groups()
        return valid or {"'": "'", '"': '\\"', None: "\\\\"}[quote]

    return _STRING_OR_CONSTANT.sub(spell, text)


def _read_object(text: str) -> dict[str, Any] | None:
    """Return a JSON object, also one with the slips of models that write JSON without a grammar."""
    straight = text.translate(_STRAIGHT)
    as_json = (drop_trailing_commas(_as_json(each)) for each in (text, straight))
    for spelling in (text, drop_trailing_commas(text), *as_json):
        try:
            value = read_json(spelling)
        except InvalidJson:
            continue
        return value if isinstance(value, dict) else None
    if text.startswith("{{") and text.endswith("}}"):
        return _read_object(text[1:-1]) if not text.startswith("{{{") else None
    entry = _ONE_ENTRY.fullmatch(straight)
    return {entry[1]: (entry[3] or entry[4]).strip()} if entry else None


_TRUNCATED = frozenset({"length", "max_tokens", "max_output_tokens", "token_limit", "model_length"})
_REFUSED = frozenset({"content_filter", "safety", "refusal", "prohibited_content", "blocklist", "recitation"})
_REASONING = ("reasoning_content", "reasoning", "thinking")
_THOUGHT = r"(?:\w{1,12}:)?(?:think|thinking|thoughts?|reasoning|reflection|analysis|scratchpad)"
_THOUGHT_BEGINS = re.compile(rf"<{_THOUGHT}>|\[THINK\]|\u25c1think\u25b7|<\|begin_of_thought\|>", re.IGNORECASE)
_THOUGHT_ENDS = re.compile(rf"</{_THOUGHT}>|\[/THINK\]|\u25c1/think\u25b7|<\|end_of_thought\|>", re.IGNORECASE)
_WRAPPED = re.compile(r"<(answer|final_answer|output|labels?|result|response|json|code|coding)>", re.IGNORECASE)
_ROLES = re.compile(r"(?:assistant|model|bot|gpt|final|json|analysis|commentary)\s*(?=\n)", re.IGNORECASE)
_ANALYSIS = re.compile(r"\s*analysis\b", re.IGNORECASE)
_EDGES = "\ufeff\u200b\u200c\u200d\u2060\u00ad \t\r\n"


def extract_text(answer: Mapping[str, Any]) -> str | Failure:
    """Return the text of a chat completion, without reasoning, a code fence, or a chat template's control tokens.

    The content may be a string, a list of parts, or the arguments of a single tool call. Reasoning ends with a tag such
    as ``</think>``, whether it has an opening tag or not.
    """
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        content, refusal, finish = message.get("content"), message.get("refusal"), choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        return unusable_answer(FailureCause.UNREADABLE, answer)
    ended = str(finish).casefold()
    parts = _join_parts(content)
    if refusal or ended in _REFUSED:
        return unusable_answer(FailureCause.REFUSED, answer)
    if isinstance(parts, FailureCause):
        return unusable_answer(parts, answer)
    given = parts if parts.strip(_EDGES) else _tool_arguments(message)
    text, truncated = _strip_wrapping(given), ended in _TRUNCATED
    if not text and (
        any(_has_text(message.get(name)) for name in _REASONING) or (given.strip(_EDGES) and not truncated)
    ):
        return unusable_answer(FailureCause.ONLY_REASONING, answer)
    if truncated and not _only_blanks_follow(given, text):
        return unusable_answer(FailureCause.TRUNCATED, answer)
    return text or unusable_answer(FailureCause.EMPTY, answer)


def _join_parts(content: object) -> str | FailureCause:
    """Return the text of a message's content without reasoning, or why it has none."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for part in content if isinstance(content, list) else [content]:
        kind = str(part.get("type")) if isinstance(part, dict) else ""
        if isinstance(part, str):
            texts.append(part)
        elif kind == "refusal":
            return FailureCause.REFUSED
        elif isinstance(part, dict) and isinstance(part.get("text"), str) and kind in ("text", "output_text", "None"):
            texts.append(part["text"])
        elif kind not in ("thinking", "reasoning", "redacted_thinking", "reference"):
            return FailureCause.UNREADABLE
    return "".join(texts)


def _tool_arguments(message: Mapping[str, Any]) -> str:
    """Return the arguments of the only tool call, which some models make although no tool was offered."""
    try:
        (call,) = message["tool_calls"]
        arguments = call["function"]["arguments"]
    except (KeyError, TypeError, ValueError):
        return ""
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _has_text(value: object) -> bool:
    return bool(value.strip() if isinstance(value, str) else value)


def _only_blanks_follow(given: str, text: str) -> bool:
    """Whether an answer at its token limit is a complete object followed by white space, which some models repeat."""
    return text.startswith("{") and text.endswith("}") and given[-1:].isspace()


def _strip_wrapping(content: str) -> str:
    text = content.strip(_EDGES)
    try:
        value = read_json(text)
    except InvalidJson:
        pass
    else:  # an object may be encoded twice
        return value if isinstance(value, str) and value.lstrip().startswith("{") else text
    ends = list(_THOUGHT_ENDS.finditer(text))
    text = text[ends[-1].end() :] if ends else text
    begins = _THOUGHT_BEGINS.search(text)
    text = text[: begins.start()] if begins else text
    head, _, text = text.rpartition("<|message|>")
    if _ANALYSIS.match(head.rpartition("<|channel|>")[2] if "<|channel|>" in head else ""):
        return ""  # the last channel is one of reasoning
    text = CONTROL_TOKEN.sub("\n", text).strip(_EDGES)
    role = _ROLES.match(text)
    text = _strip_fence(text[role.end() :].strip(_EDGES) if role else text)
    wrapper = _WRAPPED.match(text)
    if wrapper and text.casefold().endswith(f"</{wrapper[1].casefold()}>"):
        text = _strip_fence(text[wrapper.end() : -len(wrapper[1]) - 3].strip(_EDGES))
    return text


def _strip_fence(text: str) -> str:
    mark = text[:3]
    if mark not in ("```", "~~~") or not text.endswith(mark) or len(text) < 2 * len(mark):
        return text
    language, line_break, rest = text[3:-3].partition("\n")
    return (rest if line_break and len(language.split()) <= 1 else text[3:-3]).strip(_EDGES)


_OWN_END = frozenset(
    {"stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed", "tool_calls", "function_call"}
)


def ended_by_itself(answer: Mapping[str, Any]) -> bool:
    """Whether the teacher ended a chat completion, not its token limit, a filter or an error."""
    try:
        return str(answer["choices"][0]["finish_reason"]).casefold() in _OWN_END
    except (KeyError, IndexError, TypeError):
        return False


def unusable_answer(cause: FailureCause, answer: Mapping[str, Any]) -> Failure:
    """Return the failure for an unusable answer, with the whole answer as its raw text."""
    try:
        return Failure(cause, raw=json.dumps(answer, ensure_ascii=False))
    except RecursionError:  # from a cache that an earlier version wrote
        return Failure(cause, raw="(nested too deeply)")


MAX_TOP_LOGPROBS = 20
"""Number of alternatives requested at each token, the maximum of the OpenAI API."""


@dataclass(frozen=True, slots=True)
class _Token:
    text: bytes = field(repr=False)
    logprob: float
    alternatives: tuple[tuple[bytes, float], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Span:
    """The position of a label in the generated text: bytes from start to stop, and whether a quote ends it."""

    start: int
    stop: int
    quoted: bool


_LABEL = re.compile(rb'"label"\s*:\s*"((?:[^"\\]|\\.)*)"')
_QUOTE = re.compile(rb'(?<!\\)"')
_SURROUNDING = b" \n\t.\"'*`"  # may surround a bare label


def compute_label_probabilities(
    answer: Mapping[str, Any], chosen: Sequence[str | None], labels: Sequence[str]
) -> list[Mapping[str, float] | None]:
    """Compute the probabilities of all labels in place of each label of an answer.

    Args:
        answer: The whole chat completion.
        chosen: Its labels, in order; None for one that could not be parsed.
        labels: The codebook's labels.

    Returns:
        For each chosen label: probabilities in (0, 1] that sum to 1, without labels of unknown probability; None if the
        answer has no log probabilities, or if the label is not found in its tokens.
    """
    tokens = _tokens(answer)
    text = b"".join(token.text for token in tokens)
    spans = _spans(text, chosen) if tokens else []
    if len(spans) != len(chosen):
        return [None] * len(chosen)
    return [
        _branch_probabilities(tokens, text, span, label, labels)
        if label is not None and _spells(text[span.start : span.stop], label, labels)
        else None
        for span, label in zip(spans, chosen, strict=True)
    ]


def _spells(spelled: bytes, label: str, labels: Sequence[str]) -> bool:
    """Whether the generated text of a label is that label, so that the probabilities are its own."""
    text = spelled.decode("utf-8", "replace")
    try:
        return match_label(read_json(f'"{text}"'), labels) == label
    except InvalidJson:
        return False


def _tokens(answer: Mapping[str, Any]) -> list[_Token]:
    try:
        content = answer["choices"][0]["logprobs"]["content"]
        return [
            _Token(_text(token), _logprob(token), tuple(_alternatives(token.get("top_logprobs") or ())))
            for token in content
        ]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
        return []


def _alternatives(listed: Sequence[Mapping[str, Any]]) -> Iterator[tuple[bytes, float]]:
    for other in listed:
        yield _text(other), _logprob(other)


def _logprob(token: Mapping[str, Any]) -> float:
    """Return a log probability; some endpoints round above 0."""
    value = float(token["logprob"])
    if math.isnan(value) or value > _ROUNDING:
        raise ValueError(f"{value} is not a log probability")
    return min(0.0, value)


_ROUNDING = 0.001


def _text(token: Mapping[str, Any]) -> bytes:
    data = token.get("bytes")
    if data is None:
        return str(token["token"]).encode("utf-8", "replace")
    if not isinstance(data, list):
        raise TypeError("bytes are a list of numbers")
    return bytes(data)


def _spans(text: bytes, chosen: Sequence[str | None]) -> list[_Span]:
    spans = [_Span(label.start(1), label.end(1), quoted=True) for label in _LABEL.finditer(text)]
    if len(chosen) != 1 or spans:
        return spans[-1:] if len(chosen) == 1 else spans
    bare = (chosen[0] or "").encode().lower()
    start = text.lower().rfind(bare) if bare else -1
    return [_Span(start, start + len(bare), quoted=False)] if start >= 0 else []


def _branch_probabilities(
    tokens: Sequence[_Token], text: bytes, span: _Span, chosen: str, labels: Sequence[str]
) -> Mapping[str, float] | None:
    spelled = {label: _spell(label, span) for label in labels}
    stop = span.stop + span.quoted
    sums = dict.fromkeys(labels, 0.0)
    reached, start = 1.0, 0
    for token in tokens:
        end = start + len(token.text)
        if start < stop and end > span.start:
            before, done = text[start : span.start], text[span.start : start]
            for other, logprob in token.alternatives:
                if other != token.text and (label := _matching_label(done, before, other, spelled, span)):
                    sums[label] += reached * math.exp(logprob)
            reached *= math.exp(token.logprob)
        start = end
    sums[chosen] += reached
    return _normalise(sums, chosen)


def _matching_label(done: bytes, before: bytes, other: bytes, spelled: Mapping[str, bytes], span: _Span) -> str | None:
    """Return the only label that an alternative token leads to, or None."""
    if not other.startswith(before):
        if before.strip():
            return None
        other = other.lstrip()
    branch = (done + other.removeprefix(before)).lower()
    if span.quoted and (quote := _QUOTE.search(branch)):
        whole = branch[: quote.start()]
        return next((label for label, spelling in spelled.items() if spelling == whole), None)
    if not span.quoted:
        branch = branch.rstrip(_SURROUNDING)
    matching = [label for label, spelling in spelled.items() if spelling.startswith(branch)]
    return matching[0] if len(matching) == 1 else None


def _spell(label: str, span: _Span) -> bytes:
    return (json.dumps(label, ensure_ascii=False)[1:-1] if span.quoted else label).encode().lower()


def _normalise(sums: Mapping[str, float], chosen: str) -> Mapping[str, float] | None:
    known = {label: probability for label, probability in sums.items() if probability > 0}
    if list(known) == [chosen] and len(sums) > 1:
        rest = max(0.0, 1 - known[chosen]) / (len(sums) - 1)
        known = {label: min(1.0, sums[label]) if label == chosen else rest for label in sums}
    total = sum(known.values())
    return (
        {label: probability / total for label, probability in known.items() if probability > 0} if total > 0 else None
    )
