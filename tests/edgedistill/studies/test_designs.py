"""The plans of each kind of study."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.errors import ProjectFileError
from edgedistill.studies.designs.consistency import count_filtered, plan_consistency
from edgedistill.studies.designs.label_source import plan_label_source, plan_teachers
from edgedistill.studies.designs.ratio import plan_ratio
from edgedistill.studies.designs.temperature import plan_temperature
from edgedistill.studies.inputs import TeacherLabels
from edgedistill.studies.study_file import (
    ConsistencySection,
    LabelSourceSection,
    RatioSection,
    TeachersSection,
    TemperatureSection,
)

from .study_inputs import coded, inputs, labelled, synthetic

SEEDS = (0, 1, 2)


def by_condition(plans):
    found = {}
    for plan in plans:
        found.setdefault(plan.condition, []).append(plan)
    return found


def label_source(task=None, **section):
    return by_condition(plan_label_source(task or inputs(), LabelSourceSection(**section), SEEDS))


def test_human_and_teacher_labels_cover_the_same_texts():
    found = label_source(human=(30,), teacher=(30,))
    for human, teacher in zip(found["human 30"], found["teacher 30"], strict=True):
        assert {row.id for row in human.rows} == {row.id for row in teacher.rows}
        assert {row.source for row in human.rows} == {"human"}
        assert {row.source for row in teacher.rows} == {"teacher"}


def test_each_seed_samples_different_rows():
    plans = label_source(human=(30,), teacher=(30,))["human 30"]
    assert len({frozenset(row.id for row in plan.rows) for plan in plans}) == len(SEEDS)


def test_a_smaller_sample_of_a_seed_is_a_subset_of_a_larger_one():
    found = label_source(human=(10, 30), teacher=(30,))
    for few, more in zip(found["human 10"], found["human 30"], strict=True):
        assert {row.id for row in few.rows} < {row.id for row in more.rows}


def test_consistent_only_is_the_same_sample_without_labels_on_which_the_votes_differ():
    found = label_source(human=(30,), teacher=(30,))
    for everything, kept in zip(found["teacher 30"], found["teacher 30, consistent only"], strict=True):
        assert [row.id for row in kept.rows] == [r.id for r in everything.rows if r.lineage["consistency"] == "1"]
        assert 0 < len(kept.rows) < len(everything.rows)
        assert kept.reference == "teacher 30"


def test_the_frozen_baseline_is_trained_on_the_same_rows():
    found = label_source(human=(30,), teacher=(30,))
    assert [plan.rows for plan in found["human 30, frozen"]] == [plan.rows for plan in found["human 30"]]
    assert {plan.learner for plan in found["human 30, frozen"]} == {"frozen"}


def test_the_teacher_itself_has_a_single_run():
    assert [plan.coder for plan in label_source(human=(30,), teacher=(30,))["the teacher itself"]] == ["gpt"]


def test_a_plan_with_too_few_rows_says_how_many_are_missing_and_the_others_are_unaffected():
    found = label_source(human=(30, 90), teacher=(30,))
    assert found["human 90"][0].missing == "the training set lacks 30 of the 90 human rows"
    assert not found["human 30"][0].missing


def ratio(task=None, replay=True, **section):
    return by_condition(plan_ratio(task or inputs(), RatioSection(**section), SEEDS, replay=replay))


@settings(deadline=None)
@given(share=st.floats(0.05, 0.8), human=st.integers(5, 50))
def test_a_mixture_keeps_its_human_rows_and_has_the_requested_share_of_synthetic_rows(share, human):
    found = ratio(human=(human,), shares=(share,))
    mixed = next(plans for name, plans in found.items() if "%" in name)
    for alone, plan in zip(found[f"human {human}"], mixed, strict=True):
        sources = Counter(row.source for row in plan.rows)
        assert [row for row in plan.rows if row.source == "human"] == list(alone.rows)
        assert abs(sources["synthetic"] - share * len(plan.rows)) <= 0.51
        assert plan.reference == alone.condition


def test_human_rows_alone_are_run_once_for_all_generators():
    task = inputs(synthetic={"gpt": synthetic("gpt", 100), "llama": synthetic("llama", 100)})
    found = ratio(task, human=(20,), shares=(0.0, 0.5))
    assert sorted(found) == ["human 20", "human 20, 50% gpt", "human 20, 50% llama"]
    assert len(found["human 20"]) == len(SEEDS)


def test_blocks_have_new_rows_balanced_by_label():
    (first, *_) = ratio(human=(20,), schedules=("sequential",), block=10, up_to=40)["human 20, gpt in blocks"]
    seen = [row.id for block in first.blocks for row in block.new]
    assert len(seen) == len(set(seen)) == 40
    assert all(Counter(row.label for row in block.new) == {"yes": 5, "no": 5} for block in first.blocks)


def test_with_the_corrected_protocol_each_block_replays_an_equal_number_of_human_rows():
    (first, *_) = ratio(human=(20,), schedules=("sequential",), block=10, up_to=40)["human 20, gpt in blocks"]
    assert all(len(block.again) == len(block.new) for block in first.blocks)
    assert {row.source for block in first.blocks for row in block.again} == {"human"}


def test_as_published_no_human_rows_are_replayed():
    found = ratio(human=(20,), schedules=("sequential",), block=10, up_to=40, replay=False)
    assert all(not block.again for plan in found["human 20, gpt in blocks"] for block in plan.blocks)


def test_too_few_rows_for_the_blocks_are_reported():
    found = ratio(human=(20,), schedules=("sequential",), block=25, up_to=500)
    expected = "the blocks require 500 synthetic rows balanced by label, but there are 300"
    assert found["human 20, gpt in blocks"][0].missing == expected


def temperatures(**section):
    task = inputs(synthetic={"a": (*synthetic("a", 80, temperature="0.3"), *synthetic("b", 80, temperature="1.0"))})
    return by_condition(plan_temperature(task, TemperatureSection(**section), SEEDS, blocks=None))


def test_each_temperature_has_its_own_rows_and_reports_their_diversity():
    found = temperatures(human=20, share=0.5)
    assert sorted(found) == ["human 20", "human 20, a at 0.3", "human 20, a at 1"]
    (cold, *_) = found["human 20, a at 0.3"]
    assert {row.lineage["temperature"] for row in cold.rows if row.source == "synthetic"} == {"0.3"}
    assert 0 < cold.facts["distinct_1"] <= 1


def test_temperatures_without_rows_are_refused():
    with pytest.raises(ProjectFileError, match=r"no synthetic rows of these temperatures; it has 0.3, 1"):
        temperatures(temperatures=(0.7,))


def consistency(task=None, **section):
    return by_condition(plan_consistency(task or inputs(), ConsistencySection(**section), SEEDS, blocks=None))


def test_a_threshold_is_compared_with_a_random_subset_of_the_same_size():
    found = consistency(thresholds=(0.0, 1.0), rows=40)
    for all_rows, kept, others in zip(
        found["all labels"],
        found["consistency from 1"],
        found["random subset, size of consistency from 1"],
        strict=True,
    ):
        ids = {row.id for row in all_rows.rows}
        assert len(kept.rows) == len(others.rows) < len(ids) == 40
        assert {row.id for row in (*kept.rows, *others.rows)} <= ids


def test_a_text_with_a_human_code_is_not_also_included_with_its_teacher_label():
    for plans in consistency(human=20, rows=40).values():
        for plan in plans:
            assert len({row.id for row in plan.rows}) == len(plan.rows)
    assert Counter(row.source for row in plan.rows)["human"] == 20


def test_another_row_with_the_text_of_a_human_row_is_excluded():
    rows = coded("h", 60)
    task = inputs()
    twins = tuple(
        replace(row.response, id=f"n{place}", inputs={"response": row.response.text.upper()})
        for place, row in enumerate(rows)
    )
    labels = tuple(replace(label, id=f"n{place}") for place, label in enumerate(task.teacher_labels["gpt"].labels))
    found = consistency(replace(task, teacher_labels={"gpt": TeacherLabels(twins, labels, {})}), human=20)
    assert {len(plan.rows) for plan in found["all labels"]} == {60}


def test_too_few_teacher_rows_in_addition_to_the_human_rows_are_reported():
    found = consistency(human=20, rows=50)
    assert {plan.missing for plan in found["all labels"]} == {"the training set lacks 10 of the 50 teacher rows"}


def test_the_accuracy_of_the_remaining_labels_is_reported():
    found = consistency(thresholds=(1.0,))
    before, after = (found[name][0].facts["kept_accuracy"] for name in ("all labels", "consistency from 1"))
    assert before == pytest.approx(2 / 3)
    assert after == pytest.approx(0.8)


def test_removed_rows_are_counted_by_label_and_group():
    found = list(count_filtered(inputs(), ConsistencySection(thresholds=(1.0,))))
    for by in ("label", "group"):
        counted = [each for each in found if each.by == by]
        assert sum(each.rows for each in counted) == 60
        assert sum(each.removed for each in counted) == 10


def test_synthetic_rows_are_filtered_by_the_label_of_a_second_coding():
    rows = (*synthetic("a", 30, consistent="true"), *synthetic("b", 10, consistent="false"))
    found = consistency(inputs(synthetic={"gpt": rows}), of="synthetic", thresholds=(1.0,), human=20)
    (plan, *_) = found["consistency from 1"]
    assert Counter(row.source for row in plan.rows) == {"human": 20, "synthetic": 30}


def test_synthetic_rows_without_a_second_coding_cannot_be_filtered():
    with pytest.raises(ProjectFileError, match="column regraded"):
        consistency(of="synthetic")


def test_students_of_several_teachers_are_trained_on_the_same_texts():
    rows = coded("h", 60)
    one = inputs().teacher_labels["gpt"]
    other = type(one)(one.responses, labelled(rows[:50], "llama", wrong=2), {})
    found = by_condition(
        plan_teachers(inputs(teacher_labels={"gpt": one, "llama": other}), TeachersSection(rows=40), SEEDS)
    )
    for plans in zip(
        found["trained on labels of gpt"],
        found["trained on labels of llama"],
        found["trained on human codes"],
        strict=True,
    ):
        assert len({frozenset(row.id for row in plan.rows) for plan in plans}) == 1
