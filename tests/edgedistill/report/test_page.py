"""The page: complete, safe, printable, accessible, without empty tables or NaN."""

import base64
import hashlib
import re
from dataclasses import asdict, replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from edgedistill.agreement import alt_test, certainty_metrics
from edgedistill.report.page import render_page

from .runs import LABELS, evaluation_of, fidelity_of, gate_of, inputs_of_run, write_run

EVIL = "<script>alert(1)</script> & \"'{{ 7 * 7 }}"
VOID = {"meta", "br", "link", "img", "hr", "input"}


class Seen(HTMLParser):
    """Elements of a page with their attributes, and its visible text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open, self.unclosed, self.text = [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        """Note an element that opens."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """Note an element that closes itself."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        """Note an element that closes."""
        if self.open.pop() != tag:
            self.unclosed.append(tag)

    def handle_data(self, data):
        """Note text that is shown."""
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def all(self, *tags):
        """Return the attributes of all elements of these names."""
        return [attrs for tag, attrs in self.elements if tag in tags]

    @property
    def words(self):
        """All visible text, with plain spaces."""
        return " ".join(" ".join(self.text).split())


def _page(folder, *, gate=None, full=True, about=None, **options):
    values, lines = evaluation_of(**options)
    write_run(folder, values, lines, gate=gate, full=full)
    return render_page(inputs_of_run(folder, **about or {}))[1]


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """The page of a run with everything in it."""
    folder = tmp_path_factory.mktemp("full")
    return _page(folder, gate=gate_of(), about={"study": folder / "study"})


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The page of a run without teacher, coders, groups, population, review rule, export and journal."""
    nothing = {"teacher": False, "coders": (), "columns": False, "population": False}
    return _page(tmp_path_factory.mktemp("bare"), full=False, review=None, **nothing)


def test_the_page_loads_nothing_from_a_network_and_runs_no_script(full):
    seen = Seen(full)
    assert not seen.all("script", "link", "img", "iframe", "object", "embed", "base", "form")
    for _, attrs in seen.elements:
        for name, value in attrs.items():
            assert not name.startswith("on"), name
            if name in ("href", "src", "xlink:href", "action"):
                assert value.startswith("#"), value
    assert "@import" not in full
    assert not re.search(r"url\((?!#)", full)


def test_the_policy_allows_the_style_sheet_by_its_hash_and_nothing_else(full):
    policy = next(attrs for attrs in Seen(full).all("meta") if attrs.get("http-equiv") == "Content-Security-Policy")
    style = full.partition("<style>")[2].partition("</style>")[0]
    hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy["content"] == (
        f"default-src 'none'; style-src 'sha256-{hashed}'; base-uri 'none'; form-action 'none'"
    )
    assert full.count("<style") == 1
    assert not any("style" in attrs for _, attrs in Seen(full).elements)


@pytest.mark.parametrize("kind", ["full", "bare"])
def test_every_element_is_closed_and_every_name_is_used_once(kind, request):
    seen = Seen(request.getfixturevalue(kind))
    assert not seen.unclosed
    assert not seen.open
    names = [attrs["id"] for _, attrs in seen.elements if "id" in attrs]
    assert len(names) == len(set(names))
    targets = {attrs["href"][1:] for attrs in seen.all("a", "use")}
    assert targets <= set(names)


@pytest.mark.parametrize("kind", ["full", "bare"])
def test_headings_go_down_one_level_at_a_time(kind, request):
    levels = [int(tag[1]) for tag, _ in Seen(request.getfixturevalue(kind)).elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_a_table_has_a_caption_and_every_header_its_scope(full):
    seen = Seen(full)
    assert len(seen.all("caption")) == len(seen.all("table"))
    assert {attrs.get("scope") for attrs in seen.all("th")} == {"col", "row"}


def test_every_plot_has_a_text_alternative(full):
    seen = Seen(full)
    pictures = [attrs for attrs in seen.all("div") if attrs.get("role") == "img"]
    assert len(pictures) == len(seen.all("svg")) == len(seen.all("figure")) == 5
    assert all(len(attrs["aria-label"]) > 40 for attrs in pictures)


@pytest.mark.parametrize("kind", ["full", "bare"])
def test_no_figure_is_shown_as_nan_or_none(kind, request):
    words = Seen(request.getfixturevalue(kind)).words
    assert not re.search(r"\b(nan|inf|None|null|True|False|Undefined)\b", words)


THREE = ("coder_2", "coder_3", "coder_4")


@pytest.fixture(scope="module")
def coded_by_three(tmp_path_factory):
    """The page of a run with three coders, at the gate, too."""
    codes = [LABELS[place % 3] for place in range(60)]
    tested = alt_test(codes[:50] + ["process"] * 10, dict.fromkeys(THREE, codes)).as_dict()
    gate = gate_of()
    sure = asdict(certainty_metrics([0.9, 0.4] * 30, [True, True, True, False] * 15))
    gate["teachers"][0] |= {"alt_test": tested, "certainty": {"confidence": sure}, "votes_without_confidence": 2}
    return _page(tmp_path_factory.mktemp("three"), gate=gate, coders=THREE)


def test_the_alternative_annotator_test_is_on_the_page_of_student_and_teacher(coded_by_three):
    words = " ".join(Seen(coded_by_three).words.split())
    assert "Alternative annotator test: model" in words
    assert "May the teacher recorded take the place of a human coder?" in words
    assert "By this test the model may take the place of a human coder: it beats 2 of 3" in words
    levels = [int(tag[1]) for tag, _ in Seen(coded_by_three).elements if re.fullmatch(r"h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert not re.search(r"\b(nan|None|True|False|Undefined)\b", words)


def test_the_certainty_of_the_teacher_is_on_the_page(coded_by_three, full):
    words = " ".join(Seen(coded_by_three).words.split())
    assert "How sure is the teacher, and how often is it right?" in words
    assert "recorded stated confidence 60 .650 .750" in words
    assert "stated no confidence that can be read" in words
    assert "How sure is the teacher" not in full


def test_with_fewer_than_three_coders_there_is_no_such_test(full):
    assert "Alternative annotator" not in full.split("How the verdict")[0]


def test_the_verdict_comes_first(full):
    words = Seen(full).words
    order = [
        "Verdict",
        "What to do next",
        "Human review",
        "Codebook",
        "Verdict by label",
        "1. Agreement",
        "2. Calibration",
        "3. Groups",
        "4. From human codes",
    ]
    order += ["5. Training data", "6. Cost", "7. Misclassified responses", "8. Limitations", "9. Provenance"]
    places = [words.index(each) for each in order]
    assert places == sorted(places)


def test_missing_parts_are_replaced_by_a_sentence_and_not_by_an_empty_table(bare):
    words = Seen(bare).words
    for sentence in (
        "names no columns with the codes of individual coders",
        "names no subgroup columns",
        "There is no teacher",
        "validation rows did not choose this rule, and it promises nothing",
        "No bundle has been exported yet",
    ):
        assert sentence in words
    assert not re.search(r"<tbody>\s*</tbody>", bare)


def test_texts_of_people_are_escaped(tmp_path):
    values, lines = evaluation_of(labels=(EVIL, "b", "c"))
    values["subgroups"][0]["column"] = values["subgroups"][0]["groups"][0]["value"] = EVIL
    values["review"]["notes"] = [EVIL]
    write_run(tmp_path, values, lines)
    texts = {line[0]: {"question": EVIL, "response": EVIL} for line in lines[1:]}
    about = {"name": EVIL, "definitions": {EVIL: EVIL}, "examples": 50, "texts": texts}
    made = render_page(inputs_of_run(tmp_path, **about))[1]
    assert "<script" not in made
    assert EVIL in Seen(made).words
    assert not Seen(made).unclosed


def test_a_label_of_any_script_is_drawn(tmp_path):
    made = _page(tmp_path, labels=("$x^2$", "日本語", "سلام"))
    assert "日本語" in Seen(made).words


def test_responses_are_omitted_unless_requested(tmp_path):
    values, lines = evaluation_of()
    write_run(tmp_path, values, lines)
    texts = {line[0]: {"response": f"what {line[0]} wrote"} for line in lines[1:]}
    default = render_page(inputs_of_run(tmp_path, texts=texts))[1]
    assert not re.search(r"what r\d+ wrote", default)
    assert "Learners' texts are omitted" in default
    some = render_page(inputs_of_run(tmp_path, texts=texts, examples=2))[1]
    assert len(re.findall(r"what r\d+ wrote", some)) == 2


def test_a_misclassified_row_is_listed_with_its_codes(full):
    _, lines = evaluation_of()
    wrong = [line for line in lines[1:] if line[1] != line[2]]
    words = Seen(full).words
    assert wrong
    assert f"for {len(wrong)} of 120 test rows" in words
    assert all(f"{line[0]} {line[1]} {line[2]}" in words for line in wrong)


def test_labels_and_texts_written_from_right_to_left_have_their_own_direction(tmp_path):
    labels = ("صحيح", "خطأ")
    values, lines = evaluation_of(labels=labels)
    write_run(tmp_path, values, lines)
    texts = {line[0]: {"response": "المصباح مضاء"} for line in lines[1:]}
    page = render_page(inputs_of_run(tmp_path, texts=texts, examples=2))[1]
    assert "المصباح مضاء" in page
    inside = re.findall(r"<(\w+)([^<>]*)>(?:صحيح|خطأ|المصباح مضاء)</", page)
    assert {name for name, settings in inside if 'dir="auto"' not in settings} <= {"bdi", "strong", "th"}
    assert {name for name, settings in inside if 'dir="auto"' in settings} >= {"td", "th"}


def test_a_student_without_errors_has_no_table_of_errors(tmp_path):
    values, lines = evaluation_of()
    for line in lines[1:]:
        line[1] = line[2]
    write_run(tmp_path, values, lines)
    assert "equals the human code for all 120\u00a0test rows" in render_page(inputs_of_run(tmp_path))[1]


def test_an_ordinal_task_is_reported_with_quadratic_weighted_kappa(tmp_path):
    words = Seen(_page(tmp_path, kind="ordinal", labels=("0", "1", "2"))).words
    assert "quadratic weighted kappa" in words
    assert "quadratic weighted κ" in words


def test_two_labels_and_grouped_rows_are_reported(tmp_path):
    words = Seen(_page(tmp_path, labels=("yes", "no"), grouped=True)).words
    assert "Rows come from 12 groups" in words
    assert "grouped rows" in words


def test_label_shares_state_how_many_responses_count_with_a_human_code(full):
    words = Seen(full).words
    assert "Label shares among 300 responses" in words
    assert "60 of the responses repeat a human-coded text and count with its code" in words


def test_rows_of_one_group_are_named_as_a_limitation(tmp_path):
    values, lines = evaluation_of(labels=("yes", "no"))
    values["agreement"]["student"]["groups"] = 1
    write_run(tmp_path, values, lines)
    assert "All rows come from one group" in Seen(render_page(inputs_of_run(tmp_path))[1]).words


def test_a_handful_of_rows_is_inconclusive(tmp_path):
    values, lines = evaluation_of(3, columns=False)
    write_run(tmp_path, values, lines)
    found, made = render_page(inputs_of_run(tmp_path))
    assert found.answer == "inconclusive"
    assert not re.search(r"\b(nan|inf)\b", Seen(made).words)


def test_codings_that_use_one_label_throughout_have_undefined_figures(tmp_path):
    values, lines = evaluation_of()
    for coding in values["agreement"].values():
        coding |= {"kappa": None, "mcc": None, "alpha": None}
    values["probabilities"] |= {"auc": None, "auc_per_label": dict.fromkeys(LABELS)}
    for compared in [*values["comparisons"], *values["human_agreement"]["beside_humans"]]:
        compared["differences"] = dict.fromkeys(compared["differences"])
    for pair in values["human_agreement"]["pairs"]:
        pair["agreement"]["kappa"] = None
    values["distillation"]["kappa_lost"] = None
    values["prevalence"] |= {"corrected": None, "fails": "the error rates are unknown"}
    fidelity = fidelity_of()
    lossless = replace(fidelity, steps=[replace(step, kappa_lost=None) for step in fidelity.steps])
    write_run(tmp_path, values, lines, gate=gate_of(), fidelity=lossless)
    words = Seen(render_page(inputs_of_run(tmp_path))[1]).words
    assert "undefined" in words
    assert "No correction: the error rates are unknown." in words


def test_cost_rows_and_notes_of_the_run_log_are_in_the_page(full):
    words = Seen(full).words
    for values in (
        "$1.23",
        "$2.50",
        "human.csv 301",
        "1 blank response",
        "a note of the training",
        "80 % were labelled by a language model",
        "the loss is no number",
        "9 duplicates a test row",
        "17 of 19",
    ):
        assert values in words, values


def test_a_bundle_of_other_figures_is_a_warning(tmp_path):
    values, lines = evaluation_of()
    write_run(tmp_path, values, lines)
    made = inputs_of_run(tmp_path)
    from edgedistill.report.inputs import BundleSummary

    for same in (True, False):
        bundle = BundleSummary("abc", "int8", 30_000_000, same)
        words = Seen(render_page(replace(made, bundle=bundle))[1]).words
        assert ("its model card may differ" in words) is not same
