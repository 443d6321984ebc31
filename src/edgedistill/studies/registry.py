"""The requirements, runs, tables and plots of each kind of study."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import StringIO

from edgedistill.agreement import inter_coder_agreement
from edgedistill.errors import ProjectFileError
from edgedistill.studies.designs.consistency import RANDOM_SUBSET, count_filtered, plan_consistency
from edgedistill.studies.designs.label_source import plan_label_source, plan_teachers
from edgedistill.studies.designs.ratio import plan_ratio
from edgedistill.studies.designs.temperature import plan_temperature
from edgedistill.studies.estimates import ConditionSummary
from edgedistill.studies.inputs import Requirements, TaskInputs
from edgedistill.studies.plots import Curves, condition_plot, curve_plot, diversity_plot
from edgedistill.studies.study_file import Kind, RatioSection, Study
from edgedistill.studies.summary import medians_table
from edgedistill.studies.tables import StudyTable, format_estimate
from edgedistill.studies.types import RunPlan
from edgedistill_serve.grading.delimited import write_records

InputsByTask = Mapping[str, TaskInputs]


@dataclass(frozen=True, slots=True)
class Design:
    """One kind of study.

    Attributes:
        requirements: The inputs it needs in addition to human rows.
        plans: Its runs on one task.
        files: Plots and further CSV files by file name.
        tables: Tables in addition to that of the conditions.
    """

    requirements: Callable[[Study], Requirements]
    plans: Callable[[Study, TaskInputs], Iterator[RunPlan]]
    files: Callable[[Study, Sequence[ConditionSummary], InputsByTask], Mapping[str, str]]
    tables: Callable[[Study, Sequence[ConditionSummary], InputsByTask], Sequence[StudyTable]] = lambda *_: ()


def _published(study: Study) -> bool:
    return study.protocol == "as-published"


def _seeds(study: Study) -> tuple[int, ...]:
    return study.seeds[:1] if _published(study) else study.seeds


def _blocks(study: Study) -> RatioSection | None:
    """The blocks of synthetic rows with `as-published`; None with `corrected`, where all rows are mixed."""
    return study.ratio if _published(study) else None


def _ratio(study: Study, inputs: TaskInputs) -> Iterator[RunPlan]:
    section = study.ratio
    if _published(study):
        section = section.model_copy(update={"schedules": ("sequential",)})
    return plan_ratio(inputs, section, _seeds(study), replay=not _published(study))


def _refuse_as_published(study: Study) -> None:
    if _published(study):
        raise ProjectFileError(
            "as-published replicates the experiments of Borchers et al. (2025), which do not include this study",
            where="protocol",
            hint="Remove protocol; as-published applies to ratio, temperature, and consistency of synthetic rows.",
        )


def _label_source_requirements(study: Study) -> Requirements:
    _refuse_as_published(study)
    section = study.label_source
    return Requirements(
        teachers="one",
        names=_optional_name(section.taught_by),
        label_test_rows=True,
        seeds=_seeds(study),
        rows=section.teacher,
    )


def _teachers_requirements(study: Study) -> Requirements:
    _refuse_as_published(study)
    section = study.teachers
    return Requirements(
        teachers="all", names=section.names, label_test_rows=True, seeds=_seeds(study), rows=(section.rows,)
    )


def _consistency_requirements(study: Study) -> Requirements:
    section = study.consistency
    if section.of == "synthetic":
        return Requirements(synthetic=True)
    _refuse_as_published(study)
    return Requirements(
        teachers="one",
        names=_optional_name(section.taught_by),
        seeds=_seeds(study),
        rows=(section.rows,),
        human=section.human,
    )


def _optional_name(name: str | None) -> tuple[str, ...]:
    return () if name is None else (name,)


def _share(summary: ConditionSummary) -> float | None:
    rows = summary.first.student.rows
    return rows.get("synthetic", 0) / sum(rows.values())


def _ratio_series(found: Sequence[ConditionSummary]) -> Callable[[ConditionSummary], Sequence[str]]:
    """One curve per number of human rows and generator; students of human rows alone belong to all of that number."""
    names = {
        (each.first.plan.facts["wanted"], each.first.plan.facts["writer"])
        for each in found
        if each.first.plan.facts.get("schedule") == "mixed"
    }

    def series(summary: ConditionSummary) -> Sequence[str]:
        facts = summary.first.plan.facts
        if facts.get("schedule") == "sequential":
            return [f"{facts['wanted']} human, {facts['writer']} in blocks"]
        writers = [facts["writer"]] if "writer" in facts else [writer for n, writer in names if n == facts["wanted"]]
        return [f"{facts['wanted']} human, {writer}" for writer in sorted(map(str, writers))]

    return series


def _fact(name: str) -> Callable[[ConditionSummary], float | None]:
    def read(summary: ConditionSummary) -> float | None:
        value = summary.first.plan.facts.get(name)
        return None if value is None else float(value)

    return read


def _ratio_files(study: Study, found: Sequence[ConditionSummary], _: InputsByTask) -> Mapping[str, str]:
    curves = Curves("synthetic share of the training set", _share, _ratio_series(found))
    return {"ratio.svg": curve_plot(found, curves, f"{study.name}: human and synthetic rows")}


def _temperature_files(study: Study, found: Sequence[ConditionSummary], _: InputsByTask) -> Mapping[str, str]:
    def writers(summary: ConditionSummary) -> Sequence[str]:
        return [str(summary.first.plan.facts.get("writer"))]

    last = _last_blocks(found)
    curves = Curves("temperature", _fact("temperature"), writers)
    return {
        "temperature.svg": curve_plot(last, curves, f"{study.name}: temperature of the synthetic rows"),
        "diversity.svg": diversity_plot(last, f"{study.name}: diversity of the synthetic rows"),
    }


def _last_blocks(found: Sequence[ConditionSummary]) -> list[ConditionSummary]:
    """The summaries of the last block of each condition."""
    last = {(each.first.plan.task, each.first.predictions.test, each.first.plan.condition): each for each in found}
    return list(last.values())


def _consistency_files(study: Study, found: Sequence[ConditionSummary], task_inputs: InputsByTask) -> Mapping[str, str]:
    def filtered(summary: ConditionSummary) -> Sequence[str]:
        is_random = summary.first.plan.condition.startswith(RANDOM_SUBSET)
        return ["random subset of the same size" if is_random else "consistent labels"]

    table = StringIO()
    write_records(table, [("task", "threshold", "by", "name", "rows", "removed")])
    for inputs in task_inputs.values():
        write_records(table, (asdict(each).values() for each in count_filtered(inputs, study.consistency)))
    curves = Curves("minimum consistency", _fact("min_consistency"), filtered)
    title = f"{study.name}: inconsistent labels removed"
    return {"consistency.svg": curve_plot(_last_blocks(found), curves, title), "removed.csv": table.getvalue()}


def _filtered_table(study: Study, task_inputs: InputsByTask) -> StudyTable:
    rows = tuple(
        (each.task, f"{each.by} {each.name}", f"{each.threshold:g}", str(each.rows), f"{each.removed / each.rows:.1%}")
        for inputs in task_inputs.values()
        for each in count_filtered(inputs, study.consistency)
        if each.by == "label"
    )
    notes = ("removed.csv also contains the groups.",)
    header = ("task", "label", "threshold", "rows", "removed")
    return StudyTable("Rows removed by the filter", header, rows, notes)


def _agreement_table(task_inputs: InputsByTask) -> StudyTable:
    """The agreement between teachers, and with the human codes of the texts that they labelled."""
    rows = []
    for inputs in task_inputs.values():
        codings = {
            name: {label.id: label.label for label in each.labels} for name, each in inputs.teacher_labels.items()
        }
        ids = {ident for coding in codings.values() for ident in coding}
        human = {ident: inputs.codes[ident] for ident in ids if ident in inputs.codes}
        found = inter_coder_agreement({**codings, **({"human": human} if human else {})}, inputs.task)
        rows += [(inputs.name, f"{p.first} and {p.second}", str(p.rows), format_estimate(p.kappa)) for p in found.pairs]
    title = "Agreement between coders on the training texts"
    return StudyTable(title, ("task", "coders", "rows", "kappa"), tuple(rows))


DESIGNS: Mapping[Kind, Design] = {
    "label-source": Design(
        _label_source_requirements,
        lambda study, inputs: plan_label_source(inputs, study.label_source, _seeds(study)),
        lambda study, found, _: {"label-source.svg": condition_plot(found, f"{study.name}: human and teacher labels")},
        lambda study, found, task_inputs: [medians_table(found, study.label_source, task_inputs)],
    ),
    "ratio": Design(lambda _: Requirements(synthetic=True), _ratio, _ratio_files),
    "temperature": Design(
        lambda study: Requirements(synthetic=True, temperatures=study.temperature.temperatures),
        lambda study, inputs: plan_temperature(inputs, study.temperature, _seeds(study), blocks=_blocks(study)),
        _temperature_files,
    ),
    "consistency": Design(
        _consistency_requirements,
        lambda study, inputs: plan_consistency(inputs, study.consistency, _seeds(study), blocks=_blocks(study)),
        _consistency_files,
        lambda study, _, task_inputs: [_filtered_table(study, task_inputs)],
    ),
    "teachers": Design(
        _teachers_requirements,
        lambda study, inputs: plan_teachers(inputs, study.teachers, _seeds(study)),
        lambda study, found, _: {"teachers.svg": condition_plot(found, f"{study.name}: teachers")},
        lambda _study, _found, task_inputs: [_agreement_table(task_inputs)],
    ),
}
