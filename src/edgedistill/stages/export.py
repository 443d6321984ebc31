"""Export: the student becomes a bundle that is known to agree with it."""

from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from edgedistill.stages.run import Run
from edgedistill_export import ExportPlan, export_bundle


def export(run: Run) -> dict[str, Any]:
    """Export `student/` to `bundle/`, checked on the validation rows.

    Returns:
        The chain of hops, the precision that is served, bytes and notes, for `run.json`.

    Raises:
        ExportFailed: The ONNX model is not the student that was evaluated.
    """
    project, journal = run.project, run.folder.journal
    validation = run.records.splits.validation
    run.advance("export: PyTorch, ONNX, int8", 0, 1)
    exported = export_bundle(
        run.folder / "student",
        run.folder / "bundle",
        ExportPlan(
            name=project.name,
            task=project.task.task,
            max_tokens=project.student.max_tokens,
            precision=project.export.precision,
            max_flip_rate=project.export.max_flip_rate,
            metrics=run.folder.read_json("evaluation.json")["agreement"],
            provenance=_provenance(run, journal),
        ),
        [dict(response.inputs) for response in validation.responses],
    )
    return {
        "served": exported.served,
        "bytes": exported.bytes,
        "chain": [asdict(hop) for hop in exported.chain],
        "notes": list(exported.notes),
    }


def _provenance(run: Run, journal: dict[str, Any]) -> dict[str, Any]:
    """Where the bundle comes from, without a response's text or a path of this machine."""
    provenance: dict[str, Any] = {
        "edgedistill": version("edgedistill"),
        "versions": journal["versions"],
        "data": [
            {"file": account.file, "sha256": account.sha256, "rows": account.read} for account in run.records.accounts
        ],
        "mixture": journal["stages"]["mix"]["by_source_and_label"],
        "student": {"backbone": run.project.student.backbone} | journal["stages"]["train"]["best"],
        "test_texts_also_in_train_or_validation": run.records.splits.repeated_texts,
    }
    if run.project.teacher:
        gate = run.folder.read_json("gate.json")
        provenance["teacher"] = {
            "model": run.teacher.model,
            "votes": run.teacher.votes,
            "temperature": run.teacher.temperature,
        }
        provenance["gate"] = {key: gate[key] for key in ("metric", "at_least", "passed", "accepted", "agreement")}
    return provenance
