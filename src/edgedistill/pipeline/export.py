"""Export: the student becomes a bundle that is verified to agree with it, step by step as far as the browser."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any, TypeAlias, cast

import msgspec

from edgedistill.agreement import Agreement
from edgedistill.agreement.bootstrap import bootstrap_groups
from edgedistill.data.reading import held_out
from edgedistill.errors import RunError
from edgedistill.evaluation.build import (
    ServedChoice,
    choose_served_rule,
    fidelity_comparison,
    measure_fidelity,
    served_agreement,
    served_figures,
)
from edgedistill.evaluation.bundle_rows import BUNDLE_ROWS, BundleRows
from edgedistill.evaluation.files import (
    decode_file,
    file_sha256,
    read_evaluation,
    read_fidelity,
    stage_hint,
    to_plain,
)
from edgedistill.evaluation.types import FIDELITY_VERSION, Evaluation, Fidelity, FidelityStep, Gate, ValidationStep
from edgedistill.pipeline.evaluate import circumstances, known_questions
from edgedistill.pipeline.mix import novelty_rows, read_mixture
from edgedistill.pipeline.run import Run
from edgedistill.project.evaluation import ReviewSection
from edgedistill.project.teacher import TeacherSection
from edgedistill.report.verdict import bundle_verdict, verdict
from edgedistill_export import ExportFailed, ExportPlan, export_bundle
from edgedistill_export.authors import TEACHER, Author
from edgedistill_export.plan import Judge, ServedResults
from edgedistill_export.web import browser_scores, browser_step, record_browser_step
from edgedistill_serve import Bundle, Score, Scorer
from edgedistill_serve.bundle.verdict import BundleVerdict

BrowserScores: TypeAlias = Callable[[Bundle, Sequence[Mapping[str, str]]], list[Score]]
"""Scores rows as the page does."""
_FORMS = {"int8": "int8", "fp32": "ONNX fp32"}


def export(run: Run) -> dict[str, Any]:
    """Export the student to `bundle/`, verified on the validation rows, and write `fidelity.json`.

    Returns:
        The steps on validation rows and on test rows, the precision that is served, bytes and notes, for `run.json`.

    Raises:
        ExportFailed: The ONNX model is not the student that was evaluated.
    """
    project, run_log = run.project, run.folder.read_json("run.json")
    validation, test = run.records.splits.validation, run.records.splits.test
    file = run.folder / "evaluation.json"
    evaluation = read_evaluation(file)

    seen, seen_authors = _seen(run)
    review = project.review or ReviewSection()
    with run.counting("export: the student in PyTorch scores validation rows", len(validation)):
        exported = export_bundle(
            run.exported_student,
            run.folder / "bundle",
            ExportPlan(
                name=project.name,
                task=project.task.task,
                max_tokens=run.max_tokens,
                precision=project.export.precision,
                max_flip_rate=project.export.max_flip_rate,
                fp32_beside=project.export.fp32_beside,
                temperature=evaluation.calibration.temperature,
                thresholds=evaluation.thresholds.values if evaluation.thresholds else {},
                review=evaluation.review.rule,
                choose_review=choose_served_rule(
                    validation,
                    project.task.task,
                    project.review,
                    evaluation.calibration,
                    evaluation.thresholds.values if evaluation.thresholds else {},
                    circumstances(run),
                    evaluation.review.rule,
                    evaluation.positive,
                ),
                held_out=held_out(project),
                vocabulary=project.export.vocabulary,
                novelty_rows=novelty_rows(run),
                false_alarms=review.novelty.false_alarms if review.novelty else None,
                seen=seen,
                authors=[response.group for response in validation.responses],
                seen_authors=seen_authors,
                golden=project.export.golden,
                codes=validation.labels,
                groups=bootstrap_groups([row.response.group for row in validation]) or (),
                locked=[dict(response.inputs) for response in test.responses],
                compare=fidelity_comparison(test, project.task.task),
                measure=served_agreement(test, project.task.task, evaluation.positive),
                judge=_judge(run, evaluation),
                metrics=to_plain(evaluation.agreement),
                provenance=_provenance(run, run_log),
            ),
            [dict(response.inputs) for response in validation.responses],
        )
    fidelity = cast("_Judged", exported.judgement).fidelity
    run.folder.write_json("fidelity.json", to_plain(fidelity))
    _record_rows(run, exported.bundle)
    if exported.tuning:
        run.folder.write_json("tuning.json", asdict(exported.tuning))
    return {
        "served": exported.served,
        "recipe": exported.bundle.manifest.recipe,
        "bytes": exported.bytes,
        "steps": [asdict(step) for step in exported.steps],
        "verdict": exported.bundle.manifest.known_verdict.status,
        "steps_on_test_rows": list(exported.locked),
        "agreement": exported.agreement,
        "tuning": asdict(exported.tuning) if exported.tuning else None,
        "notes": [*exported.notes, *(cast("ServedChoice", exported.review).notes if exported.review else ())],
        "vocabulary": asdict(exported.vocabulary) if exported.vocabulary else None,
    }


@dataclass(frozen=True, slots=True)
class _Judged:
    """What the export changes, and the verdict on the graph that is served."""

    fidelity: Fidelity
    verdict: BundleVerdict


def _judge(run: Run, evaluation: Evaluation) -> Judge:
    """Return a function that applies the rules of the report to what the export measured."""
    project, splits = run.project, run.records.splits
    file = run.folder / "gate.json"
    gate = decode_file(file, Gate, stage_hint("gate")) if run.folder.has("gate.json") else None

    def judge(found: ServedResults) -> _Judged:
        fidelity = Fidelity(
            schema_version=FIDELITY_VERSION,
            evaluation=file_sha256(run.folder / "evaluation.json"),
            served=found.served,
            steps=msgspec.convert(found.locked, tuple[FidelityStep, ...]),
            validation_steps=msgspec.convert([asdict(step) for step in found.steps], tuple[ValidationStep, ...]),
            agreement=msgspec.convert(found.agreement, Agreement | None),
            figures=served_figures(
                splits.test,
                project.evaluation,
                evaluation,
                project.task.task,
                found.scores,
                splits.validation,
                found.rule,
                cast("ServedChoice | None", found.choice),
                known_questions(run),
            )
            if found.scores
            else None,
        )
        return _Judged(fidelity, bundle_verdict(verdict(evaluation, gate, fidelity), evaluation.kind))

    return judge


def _record_rows(run: Run, bundle: Bundle) -> None:
    """Leave the digests of the rows that the bundle learned from: the next run replaces the training set."""
    inputs = run.project.task.inputs
    learned = BundleRows.of(
        bundle.manifest.version,
        inputs,
        ((row.id, row.inputs) for row in read_mixture(run.folder, inputs)),
        ((row.response.id, row.response.inputs) for row in run.records.splits.validation),
    )
    run.folder.write_json(f"{BUNDLE_ROWS}/{bundle.manifest.version}.json", to_plain(learned))


def check_browser(run: Run, scores: BrowserScores = browser_scores) -> dict[str, Any]:
    """Score validation and test rows as the page does, and add the step to `fidelity.json`, the bundle and its card.

    Args:
        run: Its export is done.
        scores: Scores rows as the page does.

    Returns:
        The step ``on_validation_rows`` and ``on_test_rows``.

    Raises:
        ExportFailed: The page changes the label of more validation rows than the project allows, or cannot score as
            Python does; the bundle is unchanged.
        WebFailed: The page cannot be written or run.
    """
    bundle = Bundle.load(run.folder / "bundle")
    validation, test = run.records.splits.validation, run.records.splits.test
    rows = [dict(response.inputs) for response in (*validation.responses, *test.responses)]
    with run.counting("export: the browser scores", len(rows)):
        native, browser = Scorer(bundle).score(rows), scores(bundle, rows)
    seen, served = len(validation), _FORMS[bundle.manifest.precision]
    step = browser_step(served, native[:seen], browser[:seen])
    allowed = run.project.export.max_flip_rate
    if not step.flip_rate <= allowed:
        raise ExportFailed(
            f"the browser changes the label of {step.flips} of {step.rows} validation rows ({step.flip_rate:.2%}; "
            f"export.max_flip_rate allows {allowed:.2%})",
            where=bundle.manifest.name,
            hint="No page was written. Serve fp32, or another int8 recipe: edgedistill export --tune.",
        )
    labels = {
        step.before: [score.label for score in native[seen:]],
        step.after: [score.label for score in browser[seen:]],
    }
    on_test_rows = measure_fidelity(test, run.project.task.task, labels)
    record_browser_step(bundle, step, [to_plain(each) for each in on_test_rows])
    _add_step(run, msgspec.convert(asdict(step), ValidationStep), on_test_rows)
    return {"on_validation_rows": asdict(step), "on_test_rows": to_plain(on_test_rows)}


def _add_step(run: Run, on_validation_rows: ValidationStep, on_test_rows: Sequence[FidelityStep]) -> None:
    """Write `fidelity.json` with the step to the browser in the place of an earlier one; the export stays done."""
    found = read_fidelity(run.folder / "fidelity.json", run.folder / "evaluation.json")
    if found is None:
        raise RunError(
            "export is not done for this evaluation",
            where=str(run.folder / "fidelity.json"),
            hint="Run `edgedistill export PROJECT`.",
        )
    steps = [step for step in found.steps if step.after != on_validation_rows.after]
    earlier = [step for step in found.validation_steps if step.after != on_validation_rows.after]
    longer = replace(found, steps=(*steps, *on_test_rows), validation_steps=(*earlier, on_validation_rows))
    run.folder.write_json("fidelity.json", to_plain(longer))
    entry = run.folder.run_log["stages"]["export"]
    outputs = tuple(entry.pop("outputs"))
    run.folder.record_stage("export", entry | {"steps_on_test_rows": to_plain(longer.steps)}, outputs)


def _seen(run: Run) -> tuple[list[dict[str, str]], list[Author]]:
    """Return the known rows besides validation rows, and the author of each.

    Test rows are not among them: they represent future texts, which a cut vocabulary cannot know either.
    """
    responses = [*run.records.splits.train.responses, *run.records.unlabelled]
    synthetic = [row for row in read_mixture(run.folder, run.task.inputs) if row.source == "synthetic"]
    rows = [*(dict(row.inputs) for row in responses), *(dict(row.inputs) for row in synthetic)]
    return rows, [*(response.group for response in responses), *[TEACHER] * len(synthetic)]


def _provenance(run: Run, run_log: dict[str, Any]) -> dict[str, Any]:
    """Return where the bundle comes from, without any response's text or local path."""
    provenance: dict[str, Any] = {
        "edgedistill": version("edgedistill"),
        "versions": run_log["versions"],
        "data": [
            {"file": counts.file, "sha256": counts.sha256, "rows": counts.read} for counts in run.records.row_counts
        ],
        "mixture": run_log["stages"]["mix"]["by_source_and_label"],
        "student": {"backbone": run.project.student.backbone} | run_log["stages"]["train"]["best"],
        "truncated": {
            name: {"rows": of["rows"], **of["cut"]} for name, of in run_log["stages"]["evaluate"]["inputs"].items()
        },
        "test_texts_also_in_train_or_validation": len(run.records.splits.twins.test_same),
    }
    if corrected := run_log["stages"]["train"].get("prior_correction"):
        provenance["prior_correction"] = corrected
    if run.project.panel:
        gate = run.folder.read_json("gate.json")
        provenance["gate"] = _gate(gate) | {key: gate[key] for key in ("used", "weights", "between")}
        sources = {each["teacher"]: each.get("source") for each in gate["teachers"]}
        provenance["data"] += [
            {name: source[name] for name in ("file", "sha256", "rows")} for source in sources.values() if source
        ]
        teachers = {
            teacher.called: {"model": teacher.model, "votes": teacher.votes, "temperature": teacher.temperature}
            if isinstance(teacher, TeacherSection)
            else {"model": teacher.model, "existing_labels": sources[teacher.called]}
            for teacher in run.panel
        }
        if len(teachers) == 1:
            (provenance["teacher"],) = teachers.values()
        else:
            provenance["teachers"] = {
                each["teacher"]: teachers[each["teacher"]] | _gate(each) for each in gate["teachers"]
            }
            provenance["teachers_vote"] = run.project.teachers_vote
    if run.project.task.redact:
        # A pattern can be a list of names. The task of the bundle has the patterns; the card does not repeat them.
        provenance["redact"] = {"patterns": len(run.project.task.redact.ids)}
    return provenance


def _gate(verdict: Mapping[str, Any]) -> dict[str, Any]:
    return {key: verdict[key] for key in ("metric", "at_least", "passed", "accepted", "agreement")}
