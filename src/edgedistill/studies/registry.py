"""What each kind of study needs, runs and shows."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import StringIO

from edgedistill.agreement import inter_coder_agreement
from edgedistill.errors import ProjectFileError
from edgedistill.studies.designs.consistency import consistency_plans, removed_rows
from edgedistill.studies.designs.label_source import label_source_plans, teachers_plans
from edgedistill.studies.designs.ratio import ratio_plans
from edgedistill.studies.designs.temperature import temperature_plans
from edgedistill.studies.estimates import Summary
from edgedistill.studies.inputs import Material, Wants
from edgedistill.studies.plots import Curves, condition_plot, curve_plot, diversity_plot
from edgedistill.studies.study_file import Kind, RatioSection, Study
from edgedistill.studies.summary import medians_sheet
from edgedistill.studies.tables import Sheet, told
from edgedistill.studies.types import Plan

Materials = Mapping[str, Material]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One kind of study.

    Attributes:
        wants: What it needs beside human rows.
        plans: Its runs on one task.
        files: Plots and further tables by file name.
        sheets: Tables beside that of the conditions.
    """

    wants: Callable[[Study], Wants]
    plans: Callable[[Study, Material], Iterator[Plan]]
    files: Callable[[Study, Sequence[Summary], Materials], Mapping[str, str]]
    sheets: Callable[[Study, Sequence[Summary], Materials], Sequence[Sheet]] = lambda *_: ()


def _published(study: Study) -> bool:
    return study.protocol == "as-published"


def _seeds(study: Study) -> tuple[int, ...]:
    return study.seeds[:1] if _published(study) else study.seeds


def _blocks(study: Study) -> RatioSection | None:
    """How synthetic rows follow human ones as published; None: corrected, both are mixed."""
    return study.ratio if _published(study) else None


def _ratio(study: Study, material: Material) -> Iterator[Plan]:
    section = study.ratio
    if _published(study):
        section = section.model_copy(update={"schedules": ("sequential",)})
    return ratio_plans(material, section, _seeds(study), replay=not _published(study))


def _unpublished(study: Study) -> None:
    if _published(study):
        raise ProjectFileError(
            "as-published repeats the experiments of Borchers et al. (2025), which this is not",
            where="protocol",
            hint="Leave protocol out; as-published goes with ratio, temperature, and consistency of synthetic rows.",
        )


def _label_source(study: Study, material: Material) -> Iterator[Plan]:
    _unpublished(study)
    return label_source_plans(material, study.label_source, _seeds(study))


def _teachers(study: Study, material: Material) -> Iterator[Plan]:
    _unpublished(study)
    return teachers_plans(material, study.teachers, _seeds(study))


def _consistency(study: Study, material: Material) -> Iterator[Plan]:
    if study.consistency.of == "teacher":
        _unpublished(study)
    return consistency_plans(material, study.consistency, _seeds(study), blocks=_blocks(study))


def _wants_of_consistency(study: Study) -> Wants:
    if study.consistency.of == "synthetic":
        return Wants(synthetic=True)
    return Wants(teachers="one", named=_one(study.consistency.taught_by))


def _one(name: str | None) -> tuple[str, ...]:
    return () if name is None else (name,)


def _share(summary: Summary) -> float | None:
    rows = summary.first.point.rows
    return rows.get("synthetic", 0) / sum(rows.values())


def _ratio_series(found: Sequence[Summary]) -> Callable[[Summary], Sequence[str]]:
    """A curve per number of human rows and writer; students on human rows alone belong to all of their number."""
    names = {
        (each.first.plan.facts["wanted"], each.first.plan.facts["writer"])
        for each in found
        if each.first.plan.facts.get("schedule") == "mixed"
    }

    def series(summary: Summary) -> Sequence[str]:
        facts = summary.first.plan.facts
        if facts.get("schedule") == "sequential":
            return [f"{facts['wanted']} human, {facts['writer']} in blocks"]
        writers = [facts["writer"]] if "writer" in facts else [writer for n, writer in names if n == facts["wanted"]]
        return [f"{facts['wanted']} human, {writer}" for writer in sorted(map(str, writers))]

    return series


def _fact(name: str) -> Callable[[Summary], float | None]:
    def found(summary: Summary) -> float | None:
        value = summary.first.plan.facts.get(name)
        return None if value is None else float(value)

    return found


def _ratio_files(study: Study, found: Sequence[Summary], _: Materials) -> Mapping[str, str]:
    curves = Curves("synthetic share of the training set", _share, _ratio_series(found))
    return {"ratio.svg": curve_plot(found, curves, f"{study.name}: human and synthetic rows")}


def _temperature_files(study: Study, found: Sequence[Summary], _: Materials) -> Mapping[str, str]:
    def writers(summary: Summary) -> Sequence[str]:
        return [str(summary.first.plan.facts.get("writer"))]

    last = _last_blocks(found)
    curves = Curves("temperature", _fact("temperature"), writers)
    return {
        "temperature.svg": curve_plot(last, curves, f"{study.name}: temperature of the synthetic rows"),
        "diversity.svg": diversity_plot(last, f"{study.name}: variety of the synthetic rows"),
    }


def _last_blocks(found: Sequence[Summary]) -> list[Summary]:
    """Of students that went on block by block, what they came to."""
    last = {(each.first.plan.task, each.first.scored.test, each.first.plan.condition): each for each in found}
    return list(last.values())


def _consistency_files(study: Study, found: Sequence[Summary], materials: Materials) -> Mapping[str, str]:
    def filtered(summary: Summary) -> Sequence[str]:
        return ["as many at random" if summary.first.plan.condition.startswith("as many") else "consistent labels"]

    table = StringIO()
    writer = csv.DictWriter(table, ("task", "threshold", "by", "name", "rows", "removed"), lineterminator="\n")
    writer.writeheader()
    for material in materials.values():
        writer.writerows(asdict(each) for each in removed_rows(material, study.consistency))
    curves = Curves("least consistency", _fact("min_consistency"), filtered)
    title = f"{study.name}: less consistent labels left out"
    return {"consistency.svg": curve_plot(_last_blocks(found), curves, title), "removed.csv": table.getvalue()}


def _removed_sheet(study: Study, materials: Materials) -> Sheet:
    rows = tuple(
        (each.task, f"{each.by} {each.name}", f"{each.threshold:g}", str(each.rows), f"{each.removed / each.rows:.1%}")
        for material in materials.values()
        for each in removed_rows(material, study.consistency)
        if each.by == "label"
    )
    notes = ("removed.csv has the groups as well.",)
    return Sheet("What the filter removes", ("task", "label", "from", "rows", "removed"), rows, notes)


def _between_sheet(materials: Materials) -> Sheet:
    """How far teachers agree with one another and with the human codes of the texts that they coded."""
    rows = []
    for material in materials.values():
        codings = {name: {label.id: label.label for label in taught.labels} for name, taught in material.taught.items()}
        ids = {ident for coding in codings.values() for ident in coding}
        human = {ident: material.codes[ident] for ident in ids if ident in material.codes}
        found = inter_coder_agreement({**codings, **({"human": human} if human else {})}, material.task)
        rows += [(material.name, f"{p.first} and {p.second}", str(p.rows), told(p.kappa)) for p in found.pairs]
    title = "Coders among themselves, on the texts to learn from"
    return Sheet(title, ("task", "coders", "rows", "kappa"), tuple(rows))


RECIPES: Mapping[Kind, Recipe] = {
    "label-source": Recipe(
        lambda study: Wants(teachers="one", named=_one(study.label_source.taught_by), of_test=True),
        _label_source,
        lambda study, found, _: {"label-source.svg": condition_plot(found, f"{study.name}: human and teacher labels")},
        lambda study, found, materials: [medians_sheet(found, study.label_source, materials)],
    ),
    "ratio": Recipe(lambda _: Wants(synthetic=True), _ratio, _ratio_files),
    "temperature": Recipe(
        lambda study: Wants(synthetic=True, temperatures=study.temperature.temperatures),
        lambda study, material: temperature_plans(material, study.temperature, _seeds(study), blocks=_blocks(study)),
        _temperature_files,
    ),
    "consistency": Recipe(
        _wants_of_consistency,
        _consistency,
        _consistency_files,
        lambda study, _, materials: [_removed_sheet(study, materials)],
    ),
    "teachers": Recipe(
        lambda study: Wants(teachers="all", named=study.teachers.names, of_test=True),
        _teachers,
        lambda study, found, _: {"teachers.svg": condition_plot(found, f"{study.name}: teachers")},
        lambda _study, _found, materials: [_between_sheet(materials)],
    ),
}
