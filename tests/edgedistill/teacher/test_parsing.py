"""What counts is that an answer is unmistakable: any form of one label is read, nothing that could mean another."""

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.task import fold_label
from edgedistill.teacher.parsing import Failure, FailureCause, parse_label

LABELS = ("process", "outcome", "no praise", "2")


def answer(content: Any, **fields: Any) -> dict[str, Any]:
    given = {name: fields.pop(name) for name in tuple(fields) if name != "finish_reason"}
    message = {"role": "assistant", "content": content, "refusal": None} | given
    return {"choices": [{"message": message, "finish_reason": "stop"} | fields]}


JSON = '{"label": "process"}'
UNMISTAKABLE = {
    "json": JSON,
    "other keys": '{"label": "process", "why": "outcome is not mentioned"}',
    "white space": '\n\t {"label" : " Process "}\n',
    "fence": f"```json\n{JSON}\n```",
    "fence without language": f"```\n{JSON}\n```",
    "fence on one line": f"```json {JSON}```",
    "tilde fence": f"~~~json\n{JSON}\n~~~",
    "prose before": f"Sure! Here is the JSON:\n\n{JSON}",
    "prose before that weighs the labels": f"It could be outcome, but it praises effort.\n{JSON}",
    "prose around a fence": f"Here is my coding:\n```json\n{JSON}\n```\nLet me know if you need anything else.",
    "prose after": f"{JSON}\n\nThe response matches because it says so.",
    "prose after that names it again": f"{JSON}\n\nIt praises the process.",
    "braces in prose": f"The set {{1, 2}} is empty. {JSON}",
    "quotes in prose": f'The learner says 5" and "well done. {JSON}',
    "trailing comma": '{"label": "process",}',
    "trailing comma after a reason": '{"reason": "a, b,]", "label": "process" , }',
    "single quotes": "{'label': 'process'}",
    "single quotes and a reason": "{'reason': 'says \"well done\", {so}', 'label': 'process'}",
    "Python's dict": "{'reason': \"it's effort\", 'sure': True, 'other': None, 'label': 'process'}",
    "escaped apostrophes": "{'reason': 'it\\'s', 'label': 'process'}",
    "an escaped apostrophe in JSON": '{"reason": "it\\\'s", "label": "process"}',
    "mathematics in a reason": r'{"reason": "\(x_1\) is 5\% of \[y\], \underline{z} C:\dir", "label": "process",}',
    "escapes of Markdown": r'{"reason": "a\_b \*c\*", "label": "process"}',
    "bare name": '{label: "process"}',
    "bare words": "{label: process}",
    "curly quotes": "{\u201clabel\u201d: \u201cprocess\u201d}",
    "doubled braces": '{{"label": "process"}}',
    "line break in a string": '{"reason": "first\nsecond", "label": "process"}',
    "upper-case name": '{"Label": "process"}',
    "marked name": '{"**label**": "process"}',
    "plural name": '{"labels": ["process"]}',
    "list of one": '{"label": ["process"]}',
    "object of one": '{"label": {"name": "process"}}',
    "list of one object": f"[{JSON}]",
    "nested": f'{{"coding": {JSON}}}',
    "properties": f'{{"type": "object", "properties": {JSON}}}',
    "twice the same": f"{JSON}\n{JSON}",
    "encoded twice": json.dumps(JSON),
    "label in quotes in quotes": json.dumps({"label": '"process"'}),
    "think": f'<think>It says {{"label": "outcome"}}.</think>\n{JSON}',
    "think without its opening": f"Okay, outcome is not it.\n</think>\n\n{JSON}",
    "thinking": f"<thinking>\noutcome?\n</thinking>\n{JSON}",
    "reasoning in upper case": f"<REASONING>outcome</REASONING>{JSON}",
    "Mistral's think": f"[THINK]outcome[/THINK]{JSON}",
    "Kimi's think": f"\u25c1think\u25b7outcome\u25c1/think\u25b7{JSON}",
    "think twice": f"<think>a</think><think>outcome</think>{JSON}",
    "thought that began again": f"{JSON}\n<think>Is it outcome?",
    "end-of-turn mark": f"{JSON}<|eot_id|>",
    "end of sequence": f"{JSON}</s>",
    "turn marks around": f"<|im_start|>assistant\n{JSON}<|im_end|>",
    "Gemma's mark": f"{JSON}<end_of_turn>\n",
    "DeepSeek's mark": f"{JSON}<\uff5cend\u2581of\u2581sentence\uff5c>",
    "channels": f"<|channel|>analysis<|message|>outcome<|end|><|channel|>final<|message|>{JSON}<|end|>",
    "byte order mark": f"\ufeff{JSON}",
    "zero-width space": f"\u200b{JSON}\u200b",
    "answer tag": f"<answer>{JSON}</answer>",
    "parts": [{"type": "text", "text": JSON}],
    "parts in pieces": [{"type": "text", "text": JSON[:9]}, {"type": "text", "text": JSON[9:]}],
    "thinking parts": [{"type": "thinking", "thinking": [{"text": "outcome"}]}, {"type": "text", "text": JSON}],
    "output text": [{"type": "output_text", "text": JSON}],
    "strings": [JSON],
    "bare": "process",
    "bare in quotes": '"process"',
    "bare in capitals": "PROCESS",
    "bare with a full stop": "Process.",
    "bold": "**Process.**",
    "italics in bold": "***process***",
    "code": "`process`",
    "heading": "## process",
    "bullet": "- process",
    "brackets": "[process]",
    "fenced label": "```\nprocess\n```",
    "answer tag around a label": "<label>process</label>",
    "bare after thinking": "hm, outcome?</think>process",
    "label colon": "Label: process",
    "label colon in bold": "**Label:** process",
    "all in bold": "**Label: process**",
    "bold label": "Label: **process**",
    "quoted name and label": '"label": "process"',
    "rest of an object": 'label": "process"}',
    "label equals": "label=process",
    "label on the next line": "Label:\nprocess",
    "answer colon": "Answer: process",
    "final answer": "Final answer: `process`",
    "sentence": "The label is process.",
    "sentence with quotes": 'I would classify this response as "process".',
    "it is": "It is process",
    "the answer and a reason": "Label: process\nReason: it praises the process.",
    "the label and a reason": "process\n\nThe learner praises effort.",
    "a dash and a reason": "Label: process - praises effort",
    "brackets and a reason": "Label: process (praises effort)",
    "a full stop and a reason": "Process. The learner praises effort.",
    "a reason and the answer": "The learner does not praise much.\nLabel: process",
    "said twice": "process\nprocess",
}  # fmt: skip


@pytest.mark.parametrize("form", UNMISTAKABLE)
def test_an_unmistakable_answer_is_read_whatever_its_form(form: str) -> None:
    assert parse_label(answer(UNMISTAKABLE[form]), LABELS) == "process"


MISTAKABLE = {
    "two objects": f'{JSON}\n{{"label": "outcome"}}',
    "two objects and prose": f'{{"label": "outcome"}} Wait. {JSON}',
    "one object is no label": f'{{"label": "…"}} {JSON}',
    "two names": '{"label": "process", "Label": "outcome"}',
    "the name twice": '{"label": "process", "label": "outcome"}',
    "the name twice, the same": '{"label": "process", "label": "process"}',
    "the name twice in Python": "{'label': 'process', 'label': 'process'}",
    "two names in Python": "{'label': 'process', 'Label': 'outcome'}",
    "not a number in Python": "{'label': 'process', 'confidence': nan}",
    "an apostrophe in single quotes": "{'label': 'process', 'reason': 'it's effort'}",
    "an object in a string in Python": "{'reason': '{\"label\": \"process\"}'}",
    "list of two": '{"label": ["process", "outcome"]}',
    "list of two objects": '[{"label": "process"}, {"label": "outcome"}]',
    "nested twice": '{"a": {"label": "process"}, "b": {"label": "outcome"}}',
    "taken back": f"{JSON}\nWait, it should be outcome.",
    "taken back with its number": f"{JSON}\nActually, 2.",
    "another label after it": f"{JSON}\nLabel: no praise",
    "a schema": '{"type": "object", "properties": {"label": {"type": "string", "enum": ["process", "outcome"]}}}',
    "the options": '{"label": "process | outcome | no praise | 2"}',
    "a choice": "process or outcome",
    "the options in a list": '["process", "outcome", "no praise", "2"]',
    "the options in lines": "- process\n- outcome",
    "the options quoted": 'Answer with one of these: "process", "outcome".',
    "negated": "It is not process.",
    "negated in a label line": "Label: not process",
    "negated in JSON": '{"label": "not process"}',
    "negated by a name": '{"label": {"not": "process"}}',
    "negated in German": "Das ist nicht process.",
    "denied afterwards": "process\nNo, it is not process.",
    "denied before": "It is definitely not this one:\nprocess",
    "doubted": "Maybe process",
    "doubted in brackets": "Label: process (partly)",
    "a question": "Is it process?",
    "cannot tell": "I cannot tell whether it is process.",
    "a sentence about it": "The learner talks about the process of learning.",
    "mentioned in an excuse": "As an AI I have no process for this.",
    "another after a comma": "Label: process, outcome",
    "another in brackets": "Label: process (or outcome)",
    "another line": "Label: process\nLabel: outcome",
    "a compound": "Label: process-oriented",
    "a longer word": "preprocess",
    "a decimal number": "Score: 2.5",
    "a negative number": "Score: -2",
    "a fraction": "Score: 2/3",
    "a number with a sign after it": "Grade: 2+",
    "an unclosed object": 'Sure! Here you go: {"label": "process"',
    "an unclosed object around one": '{"label": "outcome", "then": {"label": "process"}',
    "a thought only": f"<think>{JSON}",
    "unknown name": '{"code": "process"}',
    "null": '{"label": null}',
    "true": '{"label": true}',
    "a number with a fraction": '{"label": 2.5}',
    "NaN": '{"label": "process", "confidence": NaN}',
    "Infinity": '{"label": "process", "confidence": Infinity}',
    "a lone surrogate": '{"label": "process", "reason": "\\ud800"}',
    "a huge number": '{"label": "process", "confidence": 1' + "0" * 5000 + "}",
    "deep nesting": '{"label": ' + "[" * 5000 + "]" * 5000 + "}",
    "a part that is no text": [{"type": "text", "text": JSON}, {"type": "image_url"}],
    "a part without text": [{"type": "text"}],
}


@pytest.mark.parametrize("form", MISTAKABLE)
def test_an_answer_that_could_mean_something_else_is_refused(form: str) -> None:
    assert isinstance(parse_label(answer(MISTAKABLE[form]), LABELS), Failure)


@pytest.mark.parametrize("content", [[{"type": "image_url"}], {"text": 1}, 7, [None]])
def test_an_answer_that_is_no_text_is_not_a_label_named_like_its_cause(content: Any) -> None:
    labels = [cause.value for cause in FailureCause]
    assert isinstance(parse_label(answer(content), labels), Failure)


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (answer(None, refusal="I can't help with that."), FailureCause.REFUSED),
        (answer("", finish_reason="content_filter"), FailureCause.REFUSED),
        (answer([{"type": "refusal", "refusal": "no"}]), FailureCause.REFUSED),
        (answer('{"label": "pro', finish_reason="length"), FailureCause.TRUNCATED),
        (answer('{"label": "pro', finish_reason="MAX_TOKENS"), FailureCause.TRUNCATED),
        (answer('{"label": "process"}', finish_reason="length"), FailureCause.TRUNCATED),
        (answer("process", finish_reason="length"), FailureCause.TRUNCATED),
        (answer("<think>It praises", finish_reason="length"), FailureCause.TRUNCATED),
        (answer("<think>It praises"), FailureCause.ONLY_REASONING),
        (answer(None, reasoning_content=JSON), FailureCause.ONLY_REASONING),
        (answer("", reasoning="It praises effort."), FailureCause.ONLY_REASONING),
        (answer("", reasoning_content="It praises", finish_reason="length"), FailureCause.ONLY_REASONING),
        (answer("<|channel|>analysis<|message|>process<|end|>"), FailureCause.ONLY_REASONING),
        (
            answer(f"<|channel|>final<|message|>{JSON}<|end|><|channel|> Analysis<|message|>outcome"),
            FailureCause.ONLY_REASONING,
        ),
        (answer("<|channel|>analysis<|message|>Label: process", finish_reason="length"), FailureCause.TRUNCATED),
        (answer([{"type": "thinking", "thinking": "It praises"}]), FailureCause.EMPTY),
        (answer(None), FailureCause.EMPTY),
        (answer(""), FailureCause.EMPTY),
        (answer(" \n\ufeff"), FailureCause.EMPTY),
        (answer("process or outcome"), FailureCause.UNREADABLE),
        (answer('{"code": "process"}'), FailureCause.UNREADABLE),
        (answer('{"label": null}'), FailureCause.UNREADABLE),
        (answer('{"label": true}'), FailureCause.UNREADABLE),
        (answer([{"type": "text"}]), FailureCause.UNREADABLE),
        (answer('{"label": "no-such-label"}'), FailureCause.NO_SUCH_LABEL),
        (answer('Sure: {"label": "sarcasm"}'), FailureCause.NO_SUCH_LABEL),
        ({"choices": []}, FailureCause.UNREADABLE),
        ({}, FailureCause.UNREADABLE),
        ({"choices": [{"message": None}]}, FailureCause.UNREADABLE),
    ],
)
def test_an_answer_without_a_label_is_a_failure_with_its_cause_and_the_answer(
    given: dict[str, Any], cause: FailureCause
) -> None:
    failure = parse_label(given, LABELS)
    assert isinstance(failure, Failure)
    assert failure.cause is cause
    assert failure.raw.startswith("{")


def test_an_object_that_is_complete_before_blanks_up_to_the_limit_is_read() -> None:
    assert parse_label(answer(JSON + " \n" * 200, finish_reason="length"), LABELS) == "process"
    blank = parse_label(answer("process" + " \n" * 200, finish_reason="length"), LABELS)
    assert isinstance(blank, Failure)


def test_the_arguments_of_a_tool_call_are_the_answer_if_there_is_no_other() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "coding", "arguments": JSON}}
    assert parse_label(answer(None, tool_calls=[call], finish_reason="tool_calls"), LABELS) == "process"
    assert isinstance(parse_label(answer(None, tool_calls=[call, call]), LABELS), Failure)


@pytest.mark.parametrize(
    ("labels", "content", "label"),
    [
        (("1", "2", "3"), '{"label": 2}', "2"),
        (("1", "2", "3"), '{"label": 2.0}', "2"),
        (("1", "2", "3"), "2.0", "2"),
        (("1", "2", "3"), "Score: \uff12", "2"),
        (("1", "1.0", "2"), '{"label": 1.0}', "1.0"),
        (("1", "1.0", "2"), '{"label": 1}', "1"),
        (("1", "1.0", "2"), '{"label": "1.00"}', None),
        (("-1", "0", "1"), '{"label": -1}', "-1"),
        (("-1", "0", "1"), "-1", "-1"),
        (("true", "false"), '{"label": true}', "true"),
        (("True", "False"), "{'label': True, 'why': None}", "True"),
        (("None", "present"), "{'why': 'x', 'label': None}", "None"),
        (("no_praise", "praise"), r'{"label": "no\_praise"}', "no_praise"),
        (("it's", "so"), "{'label': \"it's\", 'n': 1}", "it's"),
        (("True", "False"), '{"label": false}', "False"),
        (("None", "present"), '{"label": null}', "None"),
        (("none", "present"), '{"label": null}', None),
        (("yes", "no"), '{"label": "yes"}\n\nI have no further comments.', "yes"),
        (("A", "B", "C"), '{"label": "B"}\n\nThis is a good answer.', "B"),
        (("A", "B", "C"), "B\n\nThis is a good answer.", "B"),
        (("A", "B", "C"), '{"label": "B"}\n\nActually A.', None),
        (("A", "B", "C"), "A or B", None),
        (("[off-topic]", "on"), "[off-topic]", "[off-topic]"),
        (("{x}", "{y}"), "{x}", "{x}"),
        (("correct", "incorrect"), "The correct label is incorrect.", None),
        (("no praise", "praise"), "The label is no praise.", "no praise"),
        (("no praise", "praise"), '{"label": "no_praise"}', "no praise"),
        (("process_specific", "process"), "Label: process-specific", "process_specific"),
        (("\u00e9valu\u00e9", "non"), '{"label": "e\u0301value\u0301"}', "\u00e9valu\u00e9"),
        (("doesn\u2019t know", "knows"), '{"label": "doesn\'t know"}', "doesn\u2019t know"),
        (("\u201cquoted\u201d", "plain"), '{"label": "\\"quoted\\""}', "\u201cquoted\u201d"),
        (("Stra\u00dfe", "Weg"), '{"label": "STRASSE"}', "Stra\u00dfe"),
        (("Ma\u00dfe", "Masse"), '{"label": "masse"}', "Masse"),
        (("Ma\u00dfe", "Masse"), '{"label": "ma\u00dfe"}', "Ma\u00dfe"),
        (("\u6b63\u786e", "\u9519\u8bef"), "\u6b63\u786e\u3002", "\u6b63\u786e"),
        (("\U0001f44d", "\U0001f44e"), '{"label": "\\ud83d\\udc4d"}', "\U0001f44d"),
    ],
)
def test_labels_of_every_kind_are_recognised_or_refused(
    labels: tuple[str, ...], content: str, label: str | None
) -> None:
    found = parse_label(answer(content), labels)
    assert isinstance(found, Failure) if label is None else found == label


GRADES = ("C", "B", "A", "A*")


@pytest.mark.parametrize(
    ("content", "label"),
    [
        ("A", "A"), ("a", "A"), ("A.", "A"), ("**A**", "A"), ("*A*", "A"), ('"A"', "A"), ("Label: A", "A"),
        ("Label: **A**", "A"), ("**Label:** A", "A"), ("The label is A.", "A"), ("A*", "A*"), ("a*", "A*"),
        ("A*.", "A*"), ("**A***", "A*"), ('"A*"', "A*"), ("Label: A*", "A*"), ("Grade: `A*`.", "A*"),
        ('{"label": "**A**"}', "A"), ('{"label": "A*."}', "A*"), ("- A*", "A*"), ("* A", "A"), ("* A*", "A*"),
        ("**A", None), ("A**", None), ("A or A*", None), ("A+", None), ("Grade: A-", None), ("Label: **A*", None),
        ("**Label:** A*", "A*"), ("**Label:** **A***", "A*"), ("**Label: A***", "A*"), ("**Label: A**", "A"),
        ("** A*", "A*"), ("*A *", None), ("__A*__", "A*"), ('*"A*"*', "A*"), ("Label: *A**", "A*"),
        ("A\\*", "A*"), ("**A\\***", "A*"), ("The grade is A\\*.", "A*"), ("A *", None), ("Label: A *", None),
        ("A \u2217", None), ("A\u2605", None), ("A\ufe61", None), ("The label is A *.", None), ("Grade: A\u204e", None),
        ('{"label": "A *"}', None), ('{"label": "A"}\n\nFinal grade: A*', None), ('{"label": "A"}\n\nA good one.', "A"),
    ],
)  # fmt: skip
def test_what_is_stripped_turns_no_label_into_another(content: str, label: str | None) -> None:
    found = parse_label(answer(content), GRADES)
    assert isinstance(found, Failure) if label is None else found == label


@pytest.mark.parametrize(
    ("labels", "content", "label"),
    [
        (("-1", "0", "1"), "- 1", None), (("-1", "0", "1"), '{"label": "- 1"}', None),
        (("-1", "0", "1"), "Label: - 1", None), (("-1", "0", "1"), "The score is - 1.", None),
        (("-1", "0", "1"), "The score is 1.", "1"), (("-1", "0", "1"), "- -1", "-1"), (("-1", "0", "1"), "- 0", "0"),
        (("-1", "0", "1"), "+1", "1"), (("0", "1"), "- 1", "1"), (("0", "1"), "\u2022 1", "1"),
        (("1", "1+", "1-"), "1 +", None), (("1", "1+", "1-"), "Grade: 1 -", None), (("1", "1+", "1-"), "Grade: 1", "1"),
        (("1", "1+", "1-"), "Grade: 1 \u2013", None), (("C", "C#"), "C #", None), (("C", "C#"), "C\\#", "C#"),
        (("C", "C#"), "C\u266f", None), (("?", "!"), "?!", None), (("?", "!"), '"?"', "?"),
        (("1", "1.5"), "1. 5", None), (("1", "1.5"), "Score: 1 .5", None), (("1", "1.5"), "1.", "1"),
        (("0", "1"), ">= 1", None), (("0", "1"), "Score: > 1", None), (("0", "1"), "score 1 < 2", None),
        (("0", "1"), "> 1", "1"), (("0", "1"), "Score -> 1", "1"), (("0", "1"), "Score: \u2264 1", None),
        (("0", "1"), "~1", None), (("0", "1"), "\u22651", None), (("0", "1"), "Score: >1", None),
        (("a_b", "ab"), "a\\_b", "a_b"), (("no", "no!"), "no !", None), (("no", "no!"), "The label is no.", "no"),
    ],
)  # fmt: skip
def test_signs_near_a_label_are_never_lost_where_they_make_another_label(
    labels: tuple[str, ...], content: str, label: str | None
) -> None:
    found = parse_label(answer(content), labels)
    assert isinstance(found, Failure) if label is None else found == label


SIGNS = st.sampled_from([*"*+-#'?!.~^", "\u2217", "\u2605", "\u2212", "++"])


@given(
    SIGNS,
    st.booleans(),
    st.sampled_from(["", " ", "\\", " \\"]),
    st.sampled_from(["{}", "{}.", "Label: {}", "The label is {}."]),
)
def test_a_label_with_a_sign_is_never_read_as_the_label_without(
    sign: str, leading: bool, between: str, form: str
) -> None:
    with_sign = f"{sign}A" if leading else f"A{sign}"
    content = form.format(f"{sign}{between}A" if leading else f"A{between}{sign}")
    found = parse_label(answer(content), ("A", "B", with_sign))
    assert isinstance(found, Failure) or found == with_sign or (found == "A" and form.format("A") == content)


ODD = st.text("Aa1*.'\"`?!_-() \u00e9\u2019\uff21", min_size=1, max_size=4).filter(lambda name: name == name.strip())
CODEBOOKS = st.lists(ODD, min_size=2, max_size=6, unique=True)


@given(CODEBOOKS)
def test_every_label_of_every_codebook_is_read_as_itself(labels: list[str]) -> None:
    for label in labels:
        assert parse_label(answer(json.dumps({"label": label})), labels) == label
        assert parse_label(answer(json.dumps([{"label": unicodedata.normalize("NFC", label)}])), labels) in (
            label,
            unicodedata.normalize("NFC", label),
        )


FORMS = [
    "{}",
    "**{}**",
    "*{}*",
    '"{}"',
    "`{}`",
    "{}.",
    "- {}",
    "* {}",
    "Label: {}",
    "**Label:** {}",
    "Label: **{}**",
    "{}\n",
]


@given(CODEBOOKS, st.sampled_from(FORMS))
def test_a_decorated_label_is_read_as_itself_or_as_one_that_is_written_the_same(labels: list[str], form: str) -> None:
    for label in labels:
        content = form.format(label)
        found = parse_label(answer(content), labels)
        if not isinstance(found, Failure) and found != label:
            same = {fold_label(other.format(found)) for other in FORMS}
            assert fold_label(content) in same


NAMES = st.sampled_from(["choices", "message", "content", "label", "refusal", "tool_calls", "type", "text"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
)


@given(ANYTHING)
def test_no_answer_makes_the_parser_fail(value: Any) -> None:
    result = parse_label({"choices": value}, LABELS)
    assert isinstance(result, Failure) or result in LABELS


@given(ANYTHING)
def test_no_message_makes_the_parser_fail(value: Any) -> None:
    result = parse_label({"choices": [{"message": value, "finish_reason": "stop"}]}, LABELS)
    assert isinstance(result, Failure) or result in LABELS


PIECES = [
    "{",
    "}",
    "[",
    "]",
    '"',
    "'",
    ":",
    ",",
    "\\",
    "label",
    "process",
    "outcome",
    "not",
    "\n",
    " ",
    "```",
    "</think>",
]
PIECES += ["<think>", "<|im_end|>", "**", '{"label": "process"}', '{"label": "outcome"}', "Label: ", "2", ".", "NaN"]


@given(st.text() | st.lists(st.sampled_from(PIECES)).map("".join))
def test_a_text_gives_a_label_of_the_codebook_or_a_failure(content: str) -> None:
    result = parse_label(answer(content), LABELS)
    assert isinstance(result, Failure) or result in LABELS


@given(st.permutations([JSON, '{"label": "outcome"}', "Well.", "```", "\n"]))
def test_two_objects_with_different_labels_give_none_in_any_order(pieces: list[str]) -> None:
    assert isinstance(parse_label(answer("".join(pieces)), LABELS), Failure)
