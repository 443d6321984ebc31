"""estimate(): tables in, a line per estimand and method out; bad tables are refused with the row and the fix."""

import json

import numpy as np
import pandas as pd
import pytest

import edgedistill as ed
from edgedistill.errors import ArgumentError, DataError
from edgedistill.estimates.estimate import PER_COEFFICIENT, SMALLEST
from edgedistill.estimates.results import DSL, HUMAN_ONLY, METHODS, NAIVE, PPI, ROGAN_GLADEN, EstimateTable
from edgedistill.task import Task

from .populations import LABELS, responses

ORDINAL = Task("ordinal", labels=LABELS)


def test_shares_of_all_labels_by_every_method():
    machine, human, truth = responses()
    found = ed.estimate(machine, human)
    assert (found.rows, found.human_codes, found.clusters, found.primary) == (600, 120, None, PPI)
    assert [each.method for each in found.estimates] == list(METHODS) * 3
    assert {each.estimand for each in found.estimates} == {f"share of {label}" for label in LABELS}
    for label in LABELS:
        for method in (HUMAN_ONLY, PPI, DSL, ROGAN_GLADEN):
            each = found.of(method, f"share of {label}")
            assert each.low < (truth == label).mean() < each.high
    naive = found.of(NAIVE, "share of low")
    assert naive.low > (truth == "low").mean()
    assert found.of(PPI, "share of low").effective_human_codes > 120
    assert 0 < found.of(PPI, "share of low").machine_weight <= 1


def test_human_codes_may_be_a_column_of_the_same_table():
    machine, human, _ = responses()
    both = machine.merge(human.rename(columns={"label": "human"}), how="left", on="id")
    assert ed.estimate(both, human_column="human").estimates == ed.estimate(machine, human).estimates
    without_ids = both.drop(columns="id")
    assert ed.estimate(without_ids, human_column="human").estimates == ed.estimate(machine, human).estimates


def test_the_order_of_the_tables_does_not_matter_to_corrected_shares():
    machine, human, _ = responses()
    shuffled = ed.estimate(machine.sample(frac=1, random_state=1), human.sample(frac=1, random_state=2))
    for label in LABELS:
        one, other = (each.of(PPI, f"share of {label}") for each in (ed.estimate(machine, human), shuffled))
        assert one.value == pytest.approx(other.value)
        assert one.low == pytest.approx(other.low)


def test_an_ordinal_task_has_a_mean_score_and_scores_may_be_stated():
    machine, human, truth = responses()
    found = ed.estimate(machine, human, task=ORDINAL)
    scores = {"low": 0, "middle": 1, "high": 2}
    each = found.of(PPI, "mean score")
    assert each.low < np.mean([scores[label] for label in truth]) < each.high
    doubled = ed.estimate(machine, human, scores={name: 10 + 2 * score for name, score in scores.items()})
    assert doubled.of(DSL, "mean score").value == pytest.approx(10 + 2 * found.of(DSL, "mean score").value)
    assert doubled.of(PPI, "mean score").standard_error == pytest.approx(2 * each.standard_error)
    with pytest.raises(KeyError):
        found.of(ROGAN_GLADEN, "mean score")


def test_groups_and_their_differences():
    machine, human, _ = responses(coded=200)
    found = ed.estimate(machine, human, by="condition")
    for method in (NAIVE, HUMAN_ONLY, PPI, DSL):
        values = [found.of(method, "share of high", group).value for group in ("control", "treated")]
        difference = found.of(method, "share of high", "treated - control")
        assert difference.value == pytest.approx(values[1] - values[0])
        assert difference.low < difference.value < difference.high
    other = ed.estimate(machine, human, by="condition", reference="treated")
    assert other.of(PPI, "share of high", "control - treated").value == pytest.approx(
        -found.of(PPI, "share of high", "treated - control").value
    )


def test_a_group_of_one_response_has_no_corrected_estimate_and_says_why():
    machine, human, _ = responses()
    machine.loc[0, "condition"] = "lone"
    found = ed.estimate(machine, human, by="condition")
    assert found.of(PPI, "share of low", "lone").value is None
    assert found.of(PPI, "share of low", "lone - control").value is None
    assert "needs 25 human codes; there are" in found.of(PPI, "share of low", "lone").note
    assert found.of(PPI, "share of low", "treated - control").value is not None
    assert found.remarks[0] == "* the method to report: PPI++; where it has no estimate: human only"
    assert any(remark.startswith("no PPI++ of share of high, lone") for remark in found.remarks)


def test_regressions_of_scores_and_of_labels():
    machine, human, truth = responses(coded=300)
    codes = {name: place for place, name in enumerate(LABELS)}
    machine["words"] += 5 * (truth == "high")
    found = ed.estimate(machine, human, task=ORDINAL, formula="score ~ condition + words", clusters="learner")
    assert (found.primary, found.clusters, found.model) == (DSL, 60, "ols")
    design = np.column_stack([np.ones(600), machine["condition"] == "treated", machine["words"]]).astype(float)
    known = np.linalg.lstsq(design, np.array([codes[label] for label in truth], float), rcond=None)[0]
    assert "needs 200 clusters" in found.of(PPI, "words").note
    for method in (HUMAN_ONLY, DSL):
        for name, true in zip(("Intercept", "condition[T.treated]", "words"), known, strict=True):
            each = found.of(method, name)
            assert each.low < true < each.high
    logistic = ed.estimate(machine, human, formula="high ~ words", model="logistic")
    assert logistic.of(PPI, "words").low > 0
    assert "logistic high ~ words" in repr(logistic)


def test_a_covariate_that_varies_little_around_a_large_mean_is_no_collinearity():
    machine, human, _ = responses(coded=300)
    machine["year"] = 2020 + machine["words"].rank() % 5
    found = ed.estimate(machine, human, formula="high ~ year")
    centred = ed.estimate(machine.assign(year=machine["year"] - 2022), human, formula="high ~ year")
    for method in (HUMAN_ONLY, PPI):
        assert found.of(method, "year").value == pytest.approx(centred.of(method, "year").value, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formula": "high ~ label"}, "'label' is coded by the machine and cannot be a covariate"),
        ({"formula": "words ~ score"}, "the outcome 'words' is not coded by the machine"),
        ({"formula": "high ~ low"}, "'low' is coded by the machine"),
        ({"formula": "high ~ grade"}, "there is no column 'grade'"),
        ({"formula": "score ~ words"}, "the labels have no scores"),
        ({"formula": "high"}, "'high' is not a formula"),
        ({"formula": "high ~ words +"}, "the formula cannot be evaluated"),
        ({"formula": "high ~ words", "by": "condition"}, "by and formula cannot be combined"),
        ({"formula": "high ~ words", "model": "probit"}, "unknown model 'probit'"),
        ({"formula": "score ~ words", "model": "logistic", "task": ORDINAL}, "a logistic model needs a label"),
        ({"by": "condition", "reference": "placebo"}, "there is no group 'placebo'"),
        ({"scores": {"low": 0, "high": 1}}, "scores lacks the label 'middle'"),
        ({"scores": {"low": 0, "middle": 0, "high": 0}}, "not all equal"),
        ({"scores": {"low": 0, "middle": 1, "high": 2, "top": 3}}, "unknown label 'top'"),
        ({"scores": {"low": 0, "middle": "x", "high": 2}}, "scores must be numbers"),
    ],
)
def test_invalid_arguments_are_refused(options, message):
    machine, human, _ = responses()
    with pytest.raises(ArgumentError, match=message.replace("(", r"\(").replace("+", r"\+")):
        ed.estimate(machine, human, **options)


def with_change(table, row, column, value):
    changed = table.copy()
    changed.loc[changed.index[row], column] = value
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, h: (pd.concat([m, m.iloc[:1]]), h), "the id 'r0' is already used in row 1"),
        (lambda m, h: (m, pd.concat([h, h.iloc[:1]])), "is already used in row 1"),
        (lambda m, h: (with_change(m, 3, "id", " "), h), "the id is empty"),
        (lambda m, h: (m, with_change(h, 0, "label", "hihg")), "the machine never used: 'hihg'"),
        (lambda m, h: (m.drop(columns="label"), h), "there is no column 'label'"),
        (lambda m, h: (m.rename(columns={"id": "key"}), h), "there is no column 'id'"),
        (lambda m, h: (m.assign(label="low"), h.assign(label="low")), r"the machine used 1 label\(s\)"),
        (lambda m, h: (m, h.assign(id="elsewhere" + h["id"])), "no response has both codes"),
        (lambda m, h: (m, h.assign(label=None)), "no response has both codes"),
        (lambda m, h: (m, h.iloc[:9]), "too few human codes: 9 rows"),
        (lambda m, h: (m, h.assign(inclusion_probability=0.0)), r"not numbers in \(0, 1\]: 0.0 \(id"),
        (lambda m, h: (m, h.assign(inclusion_probability=1.01)), "not numbers in"),
        (lambda m, h: (m, h.assign(inclusion_probability=-0.5)), "not numbers in"),
        (lambda m, h: (m, h.assign(inclusion_probability="often")), "not numbers in"),
        (lambda m, h: (m, h.assign(inclusion_probability="")), "missing"),
        (lambda m, h: (m.assign(label=""), h), "no row has a machine code"),
        (
            lambda m, h: (m, with_change(h.assign(inclusion_probability=0.2), 0, "inclusion_probability", None)),
            "missing",
        ),
    ],
)
def test_tables_that_cannot_be_used_are_refused(change, message):
    machine, human, _ = responses()
    with pytest.raises(DataError, match=message):
        ed.estimate(*change(machine, human))


def test_labels_that_are_not_of_the_task_are_named_with_a_row():
    machine, human, _ = responses()
    with pytest.raises(DataError, match=r"unknown labels: 'high' \(id 'r"):
        ed.estimate(machine, human, task=Task("nominal", labels=["low", "middle"]))


def test_a_label_that_no_coder_uses_has_a_share_with_a_width():
    machine, human, _ = responses()
    found = ed.estimate(machine, human, task=Task("nominal", labels=[*LABELS, "other"]))
    for method in (HUMAN_ONLY, PPI, DSL):
        each = found.of(method, "share of other")
        assert each.value == pytest.approx(0, abs=1e-9)
        assert each.low == pytest.approx(0, abs=1e-9)
        assert 0.005 < each.high < 0.1
    assert "no coded row has the label other" in found.of(ROGAN_GLADEN, "share of other").note


def test_codes_that_agree_everywhere_are_no_certainty():
    machine, human, _ = responses(accuracy=1.0, coded=30)
    found = ed.estimate(machine, human)
    assert min(each.high - each.low for each in found.estimates if each.method in (PPI, DSL)) > 0.1


def test_human_codes_outside_of_the_machine_table_are_counted():
    machine, human, _ = responses()
    more = pd.concat([human, pd.DataFrame({"id": ["x1", "x2"], "label": ["low", "high"]})])
    found = ed.estimate(machine, more)
    assert "2 human-coded rows are not in the machine table and were not used" in found.notes
    assert found.human_codes == 120


def test_rows_without_a_machine_code_are_counted_and_left_out():
    machine, human, _ = responses()
    first = int(machine.index[machine["id"] == human["id"].iloc[0]][0])
    machine.loc[first, "label"] = None
    machine.loc[next(row for row in range(600) if f"r{row}" not in set(human["id"])), "label"] = " "
    found = ed.estimate(machine, human)
    assert "2 rows have no machine code and were not counted, 1 of them with a human code" in found.notes
    assert (found.rows, found.human_codes) == (598, 119)


def test_training_rows_count_with_their_human_codes_but_do_not_correct():
    machine, human, truth = responses(coded=200)
    trained = set(human["id"].iloc[:80])
    for row in machine.index[machine["id"].isin(trained)]:
        machine.loc[row, "label"] = truth[row]  # the student repeats what it was trained on
    mixed = ed.estimate(machine, human)
    found = ed.estimate(machine, human, trained=trained)
    assert (mixed.human_codes, found.human_codes) == (200, 120)
    assert any(note.startswith("80 human-coded rows trained or selected the model") for note in found.notes)
    others = [row for row in machine.index if machine.loc[row, "id"] not in trained]
    alone = ed.estimate(machine.loc[others], human[~human["id"].isin(trained)])
    for label in LABELS:
        known = (truth[[row for row in machine.index if row not in set(others)]] == label).mean()
        part = alone.of(PPI, f"share of {label}").value
        # λ is tuned on the same rows, so the estimates of the others are equal up to λ
        assert found.of(PPI, f"share of {label}").value == pytest.approx((80 * known + 520 * part) / 600, abs=0.01)
    by_split = human.assign(split=["train"] * 40 + ["validation"] * 40 + ["test"] * 120)
    assert ed.estimate(machine, by_split).estimates == found.estimates


def test_human_codes_of_training_rows_alone_are_refused():
    machine, human, _ = responses()
    with pytest.raises(DataError, match="the model was trained on, or selected by, all 120 human-coded rows"):
        ed.estimate(machine, human.assign(split="train"))


def test_training_rows_without_a_human_code_are_not_counted():
    machine, human, _ = responses()
    machine["split"] = ["train" if f"r{row}" not in set(human["id"]) and row < 100 else "" for row in range(600)]
    lost = int((machine["split"] == "train").sum())
    found = ed.estimate(machine, human)
    assert found.rows == 600 - lost
    assert any(
        note.startswith(f"{lost} rows on which the model was trained have no human code") for note in found.notes
    )


def test_codes_that_count_like_few_because_of_their_probabilities_are_noted():
    machine, human, _ = responses()
    found = ed.estimate(machine, human.assign(inclusion_probability=[0.001, *[0.5] * (len(human) - 1)]))
    assert f"the inclusion probabilities are so unequal that {len(human)} human codes count like 2" in found.notes
    assert ed.estimate(machine, human.assign(inclusion_probability=0.2)).notes == (
        "the human-coded rows are weighted by their inverse inclusion_probability",
    )


def test_inclusion_probabilities_remove_the_bias_of_an_unequal_sample():
    machine, _, truth = responses(rows=3000)
    rng = np.random.default_rng(3)
    probability = np.where(machine["label"] == "low", 0.4, 0.05)
    drawn = rng.random(3000) < probability
    human = pd.DataFrame({"id": machine["id"], "label": truth, "inclusion_probability": probability})[drawn]
    found = ed.estimate(machine, human)
    assert found.primary == DSL
    assert any("weighted by their inverse inclusion_probability" in note for note in found.notes)
    for method in (HUMAN_ONLY, PPI, DSL):
        each = found.of(method, "share of low")
        assert each.low < (truth == "low").mean() < each.high
    ignored = ed.estimate(machine, human.drop(columns="inclusion_probability"))
    assert ignored.of(HUMAN_ONLY, "share of low").low > (truth == "low").mean()
    assert found.of(ROGAN_GLADEN, "share of low").note == "needs equal inclusion probabilities"


def test_clusters_widen_the_intervals_of_related_responses():
    machine, human, truth = responses(coded=300)
    order = np.argsort(truth == "high", kind="stable")
    machine["learner"] = [f"s{place}" for place in np.argsort(order) // 10]
    related, alone = ed.estimate(machine, human, clusters="learner"), ed.estimate(machine, human)
    assert related.clusters == 60
    for method in (HUMAN_ONLY, PPI, DSL):
        one, other = (each.of(method, "share of high") for each in (related, alone))
        assert one.value == pytest.approx(other.value, abs=0.02)
        assert one.standard_error > 1.3 * other.standard_error


def test_few_clusters_and_one_cluster_are_refused():
    machine, human, _ = responses()
    with pytest.raises(DataError, match="too few human codes: 120 rows in 1 clusters"):
        ed.estimate(machine.assign(learner="s"), human, clusters="learner")
    few = ed.estimate(machine.assign(learner=[f"s{row % 12}" for row in range(600)]), human, clusters="learner")
    assert few.of(PPI).note == "needs 25 clusters with human codes; there are 12"
    assert few.of(HUMAN_ONLY).value is not None


def test_a_regression_needs_more_human_codes_for_more_coefficients():
    machine, human, _ = responses(coded=SMALLEST[DSL] + PER_COEFFICIENT - 1)
    found = ed.estimate(machine, human, formula="high ~ words")
    assert f"needs {SMALLEST[DSL] + PER_COEFFICIENT} human codes" in found.of(DSL, "words").note
    assert found.of(HUMAN_ONLY, "words").value is not None


def test_ppi_needs_200_human_codes_in_a_regression_and_not_for_a_mean():
    machine, human, _ = responses(coded=199)
    found = ed.estimate(machine, human, formula="high ~ words")
    assert found.of(PPI, "words").note == "needs 200 human codes; there are 199"
    assert found.of(DSL, "words").value is not None
    machine, human, _ = responses(coded=200)
    assert ed.estimate(machine, human, formula="high ~ words").of(PPI, "words").value is not None
    assert ed.estimate(machine, human).of(PPI).value is not None


def test_multilabel_codes_have_a_share_per_label():
    machine, human, truth = responses()
    task = Task("multilabel", labels=LABELS)
    sets = machine.assign(
        label=[
            "none" if row % 9 == 0 else f"{code};low" if code != "low" else code
            for row, code in enumerate(machine["label"])
        ]
    )
    coded = human.assign(label=[f"{code};low" if code != "low" else "low" for code in human["label"]])
    found = ed.estimate(sets, coded, task=task)
    assert found.of(HUMAN_ONLY, "share of low").value == 1.0
    assert found.of(HUMAN_ONLY, "share of low").low < 0.98
    each = found.of(PPI, "share of high")
    assert each.low < (truth == "high").mean() < each.high


def test_probabilities_of_grade_make_dsl_more_precise():
    machine, human, truth = responses(rows=1500, coded=300, accuracy=0.6, biased=False)
    rng = np.random.default_rng(0)
    for label in LABELS:
        machine[f"probability_{label}"] = np.clip(0.33 + 0.4 * (truth == label) + rng.normal(0, 0.1, 1500), 0, 1)
    with_them = ed.estimate(machine, human).of(DSL, "share of high")
    without = ed.estimate(machine[["id", "label"]], human).of(DSL, "share of high")
    assert with_them.standard_error < 0.8 * without.standard_error


def test_missing_covariates_and_groups_are_counted():
    machine, human, _ = responses(coded=300)
    machine.loc[:9, "words"] = np.nan
    machine.loc[:4, "condition"] = None
    assert (
        "10 rows lack a covariate of the formula and were not counted"
        in ed.estimate(machine, human, formula="high ~ words").notes
    )
    assert "5 rows have no condition and are in no group" in ed.estimate(machine, human, by="condition").notes


def test_the_result_is_a_table_csv_latex_and_json(tmp_path):
    machine, human, _ = responses()
    machine["label"], human["label"] = machine["label"].replace("low", "low_&"), human["label"].replace("low", "low_&")
    found = ed.estimate(machine, human)
    assert "share of low_&" in repr(found)
    assert "PPI++ *" in repr(found)
    assert "assumed: the human-coded rows are a simple random sample" in repr(found)
    assert "<th>share of low_&amp;</th>" in found._repr_html_()
    assert EstimateTable.from_dict(json.loads(found.to_json(tmp_path / "estimates.json"))) == found
    assert EstimateTable.from_dict(found.as_dict()) == found
    frame = found.to_frame()
    assert list(frame["method"].unique()) == list(METHODS)
    assert pd.read_csv(tmp_path / "estimates.csv" if found.to_csv(tmp_path / "estimates.csv") else None)[
        "value"
    ].tolist() == pytest.approx(frame["value"].tolist())
    latex = found.to_latex(tmp_path / "estimates.tex")
    assert r"share of low\_\&" in latex
    assert r"\toprule" in (tmp_path / "estimates.tex").read_text("utf-8")


def test_the_same_seed_gives_the_same_table():
    machine, human, _ = responses()
    assert ed.estimate(machine, human, random_state=3) == ed.estimate(machine, human, random_state=3)
    one, other = (ed.estimate(machine, human, random_state=seed).of(DSL) for seed in (3, 4))
    assert one.value == pytest.approx(other.value, abs=0.5 * one.standard_error)
