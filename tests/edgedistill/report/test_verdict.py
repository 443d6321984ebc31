"""The verdict follows its rules: yes, some labels, with review, inconclusive, no."""

from dataclasses import replace

import pytest

from edgedistill.agreement import Estimate
from edgedistill.evaluation.types import StatedAim
from edgedistill.report.rules import RULES
from edgedistill.report.verdict import Requirement, VerdictAnswer, bundle_verdict, required_kappa, verdict
from edgedistill_serve.bundle.manifest import ReviewRule

from .runs import exported
from .verdicts import evaluation, gate, student, with_student


def _requirements(found):
    return {each.label: each.requirement for each in found.labels}


def _about(found, heading):
    return [each for each in found.findings if each.heading == heading]


def test_a_model_whose_interval_and_labels_reach_the_bar_may_be_used():
    found = verdict(evaluation(), gate())
    assert found.answer is VerdictAnswer.YES
    assert "the lower limit of the interval reaches the required value of 0.6" in found.reason


@pytest.mark.parametrize(
    ("low", "high", "answer"),
    [
        (0.6, 0.8, VerdictAnswer.YES),
        (0.599, 0.8, VerdictAnswer.INCONCLUSIVE),
        (0.4, 0.6, VerdictAnswer.INCONCLUSIVE),
        (0.4, 0.599, VerdictAnswer.NO),
    ],
)
def test_the_ends_of_the_interval_decide_and_not_the_figure(low, high, answer):
    assert verdict(with_student(student(low, high), review=_no_rule()), None).answer is answer


def test_an_undefined_kappa_is_inconclusive():
    found = verdict(with_student(student(kappa=False), review=_no_rule()), None)
    assert found.answer is VerdictAnswer.INCONCLUSIVE
    assert "undefined" in found.reason


def test_few_test_rows_are_inconclusive_whatever_the_figures():
    found = verdict(with_student(student(1.0, 1.0, rows=49), review=_no_rule()), None)
    assert found.answer is VerdictAnswer.INCONCLUSIVE
    assert "fewer than 50 rows" in found.reason


def test_few_groups_are_inconclusive_whatever_the_number_of_rows():
    found = verdict(with_student(student(groups=9), review=_no_rule()), None)
    assert found.answer is VerdictAnswer.INCONCLUSIVE
    assert "9\u00a0groups; with fewer than 10" in found.reason
    assert verdict(with_student(student(groups=10), review=_no_rule()), None).answer is VerdictAnswer.YES


def test_a_single_group_is_inconclusive():
    found = verdict(with_student(student(groups=1), review=_no_rule()), None)
    assert found.answer is VerdictAnswer.INCONCLUSIVE
    assert "come from 1\u00a0group; with fewer than 10" in found.reason


def test_many_repeated_texts_are_inconclusive():
    leaky = replace(evaluation(), test_texts_also_in_train_or_validation=13)
    assert verdict(leaky, None).answer is VerdictAnswer.INCONCLUSIVE
    assert "figures are optimistic" in verdict(leaky, None).reason


def test_a_few_repeated_texts_are_a_warning():
    found = verdict(replace(evaluation(), test_texts_also_in_train_or_validation=12), None)
    assert found.answer is VerdictAnswer.YES
    assert [each.tone for each in _about(found, "Repeated texts")] == ["warning"]


def test_a_label_with_few_test_rows_is_inconclusive_and_the_answer_names_the_others():
    found = verdict(with_student(student(labels={"none": (19, 0.9, 1.0)})), None)
    assert found.answer is VerdictAnswer.SOME_LABELS
    assert found.headline.startswith("For some labels: process and outcome. For none ")
    assert _requirements(found)["none"] is Requirement.INCONCLUSIVE


@pytest.mark.parametrize(
    ("ends", "requirement"),
    [
        ((0.6, 0.9), Requirement.MET),
        ((0.59, 0.9), Requirement.INCONCLUSIVE),
        ((0.2, 0.59), Requirement.NOT_MET),
        ((None, None), Requirement.INCONCLUSIVE),
    ],
)
def test_the_limits_of_its_f1_interval_decide_whether_a_label_meets_the_requirement(ends, requirement):
    found = verdict(with_student(student(labels={"none": (40, *ends)})), None)
    assert _requirements(found)["none"] is requirement


def test_a_label_without_a_test_row_is_inconclusive():
    found = verdict(with_student(student(labels={"none": (0, None, None)})), None)
    assert "No test row has this human code." in [each.text for each in found.labels]


def test_a_model_without_a_label_that_meets_the_requirement_is_inconclusive():
    few = dict.fromkeys(("process", "outcome", "none"), (19, 0.9, 1.0))
    found = verdict(with_student(student(labels=few)), None)
    assert found.answer is VerdictAnswer.INCONCLUSIVE
    assert "No individual label meets the requirement." in found.reason


def test_an_ordinal_task_is_decided_as_a_whole():
    few = dict.fromkeys(("process", "outcome", "none"), (19, 0.9, 1.0))
    found = verdict(with_student(student(labels=few), kind="ordinal"), None)
    assert found.answer is VerdictAnswer.YES
    assert "quadratic weighted κ" in found.reason


def _no_rule():
    review = evaluation().review
    return replace(review, aim=None, met=None, rule=ReviewRule())


def _rule(accepted, *, at_least=0.6):
    review = evaluation().review
    share = Estimate(0.8, 0.7, 0.9)
    return replace(
        review,
        aim=StatedAim("keep_kappa", at_least=at_least),
        met=True,
        rule=ReviewRule(thresholds={"process": 0.8}),
        test=replace(review.test, agreement=accepted, accepted=accepted.rows if accepted else 0, share_accepted=share),
    )


def test_a_review_rule_whose_accepted_rows_reach_the_bar_allows_use_with_it_only():
    found = verdict(with_student(student(0.5, 0.7), review=_rule(student(0.65, 0.9, rows=96))), None)
    assert found.answer is VerdictAnswer.WITH_REVIEW
    assert "On the 96\u00a0rows that the review rule accepts" in found.reason


def test_few_accepted_rows_do_not_allow_use_with_review():
    found = verdict(with_student(student(0.5, 0.7), review=_rule(student(0.9, 1.0, rows=49))), None)
    assert found.answer is VerdictAnswer.INCONCLUSIVE


def test_a_rule_without_thresholds_is_no_review():
    review = replace(_rule(student(0.65, 0.9)), rule=ReviewRule())
    assert verdict(with_student(student(0.5, 0.7), review=review), None).answer is VerdictAnswer.INCONCLUSIVE


def test_a_review_rule_does_not_compensate_repeated_texts():
    leaky = with_student(student(0.5, 0.7), review=_rule(student(0.65, 0.9)), test_texts_also_in_train_or_validation=60)
    assert verdict(leaky, None).answer is VerdictAnswer.INCONCLUSIVE


def test_the_gates_kappa_is_required_if_it_is_higher():
    assert required_kappa(gate(at_least=0.8)) == 0.8
    assert (
        verdict(with_student(student(0.7, 0.9), review=_no_rule()), gate(at_least=0.8)).answer
        is VerdictAnswer.INCONCLUSIVE
    )


def test_a_lower_gate_does_not_lower_the_required_kappa():
    assert required_kappa(gate(at_least=0.1)) == 0.6
    assert required_kappa(gate(at_least=0.9, metric="accuracy")) == 0.6
    assert required_kappa(None) == 0.6


def test_the_amount_of_human_review_comes_first():
    found = verdict(with_student(student(), review=_rule(student(0.65, 0.9, rows=96))), None)
    assert found.findings[0].heading == "Human review"
    assert "sends 20\u202f% [10\u202f%,\u00a030\u202f%] of the test rows to a person" in found.findings[0].text


def test_no_threshold_is_a_warning():
    found = verdict(evaluation(review=_no_rule()), None)
    assert found.findings[0].tone == "warning"
    assert "No review threshold was set" in found.findings[0].text


def test_an_aim_that_the_test_rows_do_not_confirm_is_a_warning():
    found = verdict(evaluation(review=_rule(student(0.65, 0.9, rows=96), at_least=0.7)), None)
    assert found.findings[0].tone == "warning"
    assert "do not confirm that the aim is met" in found.findings[0].text
    missed = verdict(evaluation(review=_rule(student(0.5, 0.65, rows=96), at_least=0.7)), None)
    assert "miss the aim" in missed.findings[0].text


def test_an_aim_that_sends_everything_to_people_says_so():
    review = replace(_rule(None), met=False)
    assert "every response goes to a person" in verdict(evaluation(review=review), None).findings[0].text


def test_a_teacher_that_was_accepted_despite_the_gate_is_a_warning():
    (found,) = _about(verdict(evaluation(), gate(passed=False, accepted=True)), "Gate overridden")
    assert found.tone == "warning"
    assert "failed the gate" in found.text
    assert "--accept-teacher" in found.text


def test_accepting_a_teacher_that_passed_is_no_finding():
    assert not _about(verdict(evaluation(), gate(accepted=True)), "Gate overridden")


def test_without_two_coders_no_comparison_with_people_is_made():
    (found,) = _about(verdict(evaluation(human_agreement=None), None), "Comparison with human coders")
    assert "is unknown" in found.text


@pytest.mark.parametrize(
    ("low", "high", "tone", "words"),
    [
        (-0.3, -0.11, "warning", "clearly less"),
        (-0.1, 0.1, "good", "at most 0.1 κ less"),
        (-0.2, 0.1, "neutral", "inconclusive"),
    ],
)
def test_the_model_is_compared_with_a_human_coder_against_another(low, high, tone, words):
    made = evaluation()
    gap = {"kappa": Estimate((low + high) / 2, low, high)}
    beside = [replace(each, differences=gap) for each in made.human_agreement.beside_humans]
    found = verdict(replace(made, human_agreement=replace(made.human_agreement, beside_humans=beside)), None)
    (finding,) = _about(found, "Comparison with human coders")
    assert (finding.tone, words in finding.text) == (tone, True)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(-0.3, -0.1, "agrees less"), (0.1, 0.3, "agrees more"), (-0.1, 0.1, "No difference")],
)
def test_the_model_is_compared_with_its_teacher(low, high, words):
    made = evaluation()
    gap = {"kappa": Estimate((low + high) / 2, low, high)}
    compared = [replace(each, differences=gap) for each in made.comparisons]
    (finding,) = _about(verdict(replace(made, comparisons=compared), None), "Comparison with the teacher")
    assert words in finding.text


def test_an_exported_model_that_is_worse_than_the_evaluated_one_is_a_warning():
    made = exported(evaluation())
    step = replace(made.steps[-1], flips=9, kappa_lost=Estimate(0.05, 0.01, 0.09))
    (finding, *_) = _about(verdict(evaluation(), None, replace(made, steps=(step,))), "Exported model")
    assert finding.tone == "warning"
    assert "9\u00a0labels" in finding.text


def test_a_model_that_was_not_exported_is_a_warning():
    found = verdict(evaluation(), None, None)
    assert [each.tone for each in _about(found, "Exported model")] == ["warning"]


def _with_group(**changes):
    made = evaluation()
    values = {"value": "rural", "rows": 40, "suppressed": False, "accuracy": None, "kappa": None, "smd": {}}
    from edgedistill.agreement import Subgroup
    from edgedistill.evaluation.types import SubgroupTable

    group = Subgroup(**values | changes)
    return replace(made, subgroups=[SubgroupTable("place", "student", 20, 0, [group])])


def test_a_group_below_the_required_kappa_is_a_warning():
    (finding,) = _about(verdict(_with_group(kappa=Estimate(0.4, 0.3, 0.55)), None), "Group of learners")
    assert "place = rural" in finding.text
    assert "below the required 0.6" in finding.text


def test_a_group_with_a_large_mean_difference_is_a_warning():
    found = verdict(_with_group(smd={"process": Estimate(0.3, 0.11, 0.5)}), None)
    (finding,) = _about(found, "Group of learners")
    assert "the model assigns process more often" in finding.text


def test_a_group_difference_that_may_be_chance_is_no_warning():
    found = verdict(_with_group(kappa=Estimate(0.5, 0.3, 0.6), smd={"score": Estimate(0.3, 0.1, 0.5)}), None)
    assert not _about(found, "Group of learners")


def test_a_small_group_is_named_as_without_results():
    (finding,) = _about(verdict(_with_group(suppressed=True, rows=3), None), "Small groups")
    assert "place = rural" in finding.text


def test_every_rule_states_its_values():
    assert len({name for name, _ in RULES}) == len(RULES)
    assert all("{" not in text for _, text in RULES)


def test_with_review_the_labels_are_evaluated_on_the_accepted_rows():
    accepted = student(0.65, 0.9, rows=96, labels={"none": (12, 0.9, 1.0)})
    found = verdict(with_student(student(0.5, 0.7), review=_rule(accepted)), None)
    assert found.answer is VerdictAnswer.WITH_REVIEW
    assert _requirements(found)["none"] is Requirement.INCONCLUSIVE
    assert "For none the test rows do not show" in found.headline


def test_the_agreement_without_repeated_texts_is_stated_with_their_number():
    made = evaluation()
    twins = replace(made.twins, near=7, without_same={"student": student(0.5, 0.7, rows=110)}, validation_same=3)
    found = verdict(replace(made, test_texts_also_in_train_or_validation=10, twins=twins), None)
    (repeated,) = _about(found, "Repeated texts")
    assert "10 of 120\u00a0test rows" in repeated.text
    assert "On the 110\u00a0other rows, the κ with the human codes is .60" in repeated.text
    (near,) = _about(found, "Nearly repeated texts")
    assert near.text == "7 of 120\u00a0test rows differ from a training or validation row in a few characters."
    assert [each.tone for each in _about(found, "Repeated validation rows")] == ["warning"]


def _one_label(rows):
    """A student that gives every row the label outcome."""
    table = tuple((0, count, 0) for count in rows)
    return replace(student(0.0, 0.1), confusion=table, rows=sum(rows))


def test_a_model_that_gives_one_label_to_all_rows_was_not_trained():
    found = verdict(with_student(_one_label((40, 40, 40)), review=_no_rule()), None)
    assert found.answer is VerdictAnswer.NO
    assert found.headline == "No: training failed. The model gives every test response the same label, outcome."
    assert bundle_verdict(found, "nominal").status == "not validated"


def test_one_label_is_no_fault_where_the_human_coders_give_one_label_too():
    assert not verdict(with_student(_one_label((0, 120, 0)), review=_no_rule()), None).only_label


@pytest.mark.parametrize(
    ("found", "status", "labels"),
    [
        (student(), "validated", ("process", "outcome", "none")),
        (student(labels={"none": (40, 0.5, 0.9)}), "validated for some labels", ("process", "outcome")),
        (student(0.4, 0.8), "inconclusive", ()),
        (student(0.3, 0.5), "not validated", ()),
    ],
)
def test_a_bundle_states_the_verdict_and_the_labels_that_it_covers(found, status, labels):
    stated = bundle_verdict(verdict(with_student(found, review=_no_rule()), None), "nominal")
    assert (stated.status, stated.labels) == (status, labels)
    assert stated.headline
    assert stated.reason
