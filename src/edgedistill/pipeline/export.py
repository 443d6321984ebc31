"""Export: the student becomes a bundle that is known to agree with it."""

from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import msgspec

from edgedistill.agreement.bootstrap import bootstrap_groups
from edgedistill.pipeline.compress import exported_student
from edgedistill.pipeline.fidelity import chain_on, write_chain
from edgedistill.pipeline.mix import read_mixture
from edgedistill.pipeline.run import Run
from edgedistill_export import ExportPlan, export_bundle
from edgedistill_serve.bundle.manifest import ReviewRule


def export(run: Run) -> dict[str, Any]:
    """Export `student/` to `bundle/`, checked on the validation rows.

    Returns:
        The chains of hops, on validation rows and on test rows, the precision that is served, bytes and notes, for
        `run.json`.

    Raises:
        ExportFailed: The ONNX model is not the student that was evaluated.
    """
    project, journal = run.project, run.folder.journal
    validation, test = run.records.splits.validation, run.records.splits.test

    evaluation = run.folder.read_json("evaluation.json")
    run.advance("export: PyTorch, ONNX, int8", 0, 1)
    exported = export_bundle(
        exported_student(run),
        run.folder / "bundle",
        ExportPlan(
            name=project.name,
            task=project.task.task,
            max_tokens=project.student.max_tokens,
            precision=project.export.precision,
            max_flip_rate=project.export.max_flip_rate,
            fp32_beside=project.export.fp32_beside,
            temperature=evaluation["calibration"]["temperature"],
            thresholds=(evaluation.get("thresholds") or {}).get("values", {}),
            review=msgspec.convert(evaluation["review"]["rule"], ReviewRule),
            vocabulary=project.export.vocabulary,
            seen=_seen(run),
            codes=validation.labels,
            groups=bootstrap_groups([row.response.group for row in validation]) or (),
            locked=[dict(response.inputs) for response in test.responses],
            compare=chain_on(test, project.task.task),
            metrics=evaluation["agreement"],
            provenance=_provenance(run, journal),
        ),
        [dict(response.inputs) for response in validation.responses],
    )
    write_chain(run.folder, exported.locked)
    if exported.tuning:
        run.folder.write_json("tuning.json", asdict(exported.tuning))
    return {
        "served": exported.served,
        "recipe": exported.bundle.manifest.recipe,
        "bytes": exported.bytes,
        "chain": [asdict(hop) for hop in exported.chain],
        "chain_on_test_rows": list(exported.locked),
        "tuning": asdict(exported.tuning) if exported.tuning else None,
        "notes": list(exported.notes),
        "vocabulary": asdict(exported.vocabulary) if exported.vocabulary else None,
    }


def _seen(run: Run) -> list[dict[str, str]]:
    """Rows beside the validation rows whose texts may be seen.

    Test rows are not among them: they stand for the texts to come, which a cut vocabulary does not know either.
    """
    responses = [*run.records.splits.train.responses, *run.records.unlabelled]
    trained_on = read_mixture(run.folder, run.project.task.task.inputs)
    return [dict(row.inputs) for row in responses] + [dict(row.inputs) for row in trained_on]


def _provenance(run: Run, journal: dict[str, Any]) -> dict[str, Any]:
    """Where the bundle comes from, without a response's text or a path of this machine."""
    provenance: dict[str, Any] = {
        "edgedistill": version("edgedistill"),
        "versions": journal["versions"],
        "data": [
            {"file": account.file, "sha256": account.sha256, "rows": account.read} for account in run.records.row_counts
        ],
        "mixture": journal["stages"]["mix"]["by_source_and_label"],
        "student": {"backbone": run.project.student.backbone} | journal["stages"]["train"]["best"],
        "test_texts_also_in_train_or_validation": run.records.splits.repeated_texts,
    }
    if run.project.panel:
        gate = run.folder.read_json("gate.json")
        provenance["gate"] = _gate(gate) | {key: gate[key] for key in ("used", "weights", "between")}
        teachers = {
            teacher.called: {"model": teacher.model, "votes": teacher.votes, "temperature": teacher.temperature}
            for teacher in run.panel
        }
        if len(teachers) == 1:
            provenance["teacher"] = teachers[run.teacher.called]
        else:
            provenance["teachers"] = {
                each["teacher"]: teachers[each["teacher"]] | _gate(each) for each in gate["teachers"]
            }
            provenance["teachers_vote"] = run.project.teachers_vote
    if run.project.task.redact:
        provenance["redact"] = run.project.task.redact.model_dump(mode="json")
    return provenance


def _gate(verdict: Mapping[str, Any]) -> dict[str, Any]:
    return {key: verdict[key] for key in ("metric", "at_least", "passed", "accepted", "agreement")}
