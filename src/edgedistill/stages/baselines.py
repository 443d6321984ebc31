"""What the student is compared with beside the teacher: other students of the same rows."""

from edgedistill.stages.comparing import HUMAN_TRAINED
from edgedistill.stages.folder import FROZEN, SHRUNK, STUDENT
from edgedistill.stages.human_trained import human_trained
from edgedistill.stages.run import Run
from edgedistill.student import backbone_folder
from edgedistill.student.frozen import frozen_baseline
from edgedistill.student.thresholds import readout_of
from edgedistill_export.checkpoint import Checkpoint


def baselines(run: Run) -> dict[str, dict[str, str]]:
    """Code the test rows with what `train` wrote beside the student.

    Returns:
        By the coding's name a label per row's id: ``frozen encoder``; where there are two students the other one,
        ``shrunk student`` or ``fine-tuned student``; and ``human-trained student``, where one is named.

    Raises:
        RunError: The human-trained student is none, or is not there.
        CheckpointError: It is one of another task.
    """
    task, student, test = run.project.task.task, run.project.student, run.records.splits.test
    rows = [dict(response.inputs) for response in test.responses]
    codings: dict[str, tuple[str, ...]] = {}
    if student.kind != "frozen":
        backbone = backbone_folder(student.backbone, run.project.folder)
        codings["frozen encoder"] = frozen_baseline(run.folder / FROZEN, backbone, task, rows).labels
    if student.shrink:
        other, name = (STUDENT, "fine-tuned student") if student.shrink.export else (SHRUNK, "shrunk student")
        checkpoint = Checkpoint.load(run.folder / other, task, student.max_tokens)
        codings[name] = readout_of(checkpoint, run.records.splits.validation).labels(checkpoint.logits(rows))
    if (taught := human_trained(run)) is not None:
        readout = readout_of(taught, run.records.splits.validation)
        codings[HUMAN_TRAINED] = readout.labels(taught.logits(rows))
    ids = [response.id for response in test.responses]
    return {name: dict(zip(ids, labels, strict=True)) for name, labels in codings.items()}
