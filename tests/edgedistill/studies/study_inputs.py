"""The inputs of a task in memory."""

from edgedistill.data import CodedResponse, MixtureRow, Response, TeacherLabel, TestRows, TrainRows, ValidationRows
from edgedistill.mixing import human_rows
from edgedistill.project import StudentSection
from edgedistill.studies.inputs import TaskInputs, TeacherLabels
from edgedistill.studies.runs import Settings
from edgedistill.studies.study_file import StudyStudent
from edgedistill_serve.task.task import Label, Task

NAMES = ("yes", "no")
TASK = Task(kind="nominal", labels=tuple(map(Label, NAMES)), inputs=("response",))


def settings(protocol="corrected", **student):
    return Settings(protocol, StudyStudent(**student))


def coded(prefix, count):
    """Coded rows with alternating labels; train rows (h) belong to groups."""
    return tuple(
        CodedResponse(_response(prefix, place, f"g{place % 5}" if prefix == "h" else None), NAMES[place % 2])
        for place in range(count)
    )


def _response(prefix, place, group):
    return Response(f"{prefix}{place}", {"response": f"{prefix} text {place}"}, "h.csv", place + 2, group)


def labelled(rows, teacher, wrong=3):
    """Labels of a teacher that is wrong on every `wrong`-th row, and whose votes differ on every second of those."""
    labels = []
    for place, row in enumerate(rows):
        off = place % wrong == 0
        label = NAMES[1 - NAMES.index(row.label)] if off else row.label
        consistency = 2 / 3 if off and place % 2 == 0 else 1.0
        labels.append(TeacherLabel(row.response.id, label, consistency, {label: 1.0}, (label,), teacher))
    return tuple(labels)


def synthetic(writer, count, **lineage):
    """Synthetic rows with alternating labels."""
    return tuple(
        MixtureRow(f"{writer}/{i}", {"response": f"made {i}"}, NAMES[i % 2], "synthetic", {NAMES[i % 2]: 1.0}, lineage)
        for i in range(count)
    )


def inputs(human=60, test=20, **changes):
    """A task with one teacher that labelled the train texts, and one generator of synthetic rows."""
    train, test_rows, validation = coded("h", human), coded("t", test), coded("v", 10)
    texts = tuple(row.response for row in train)
    defaults = {
        "name": "toy",
        "task": TASK,
        "human": human_rows(TrainRows(train), TASK),
        "codes": {row.response.id: row.label for row in train},
        "groups": {row.response.id: row.response.group for row in train},
        "validation": ValidationRows(validation),
        "tests": {"test": TestRows(test_rows)},
        "teacher_labels": {
            "gpt": TeacherLabels(texts, labelled(train, "gpt"), {row.response.id: row.label for row in test_rows})
        },
        "synthetic": {"gpt": synthetic("gpt", 300)},
        "student": StudentSection(max_tokens=24),
        "backbone": "minilm",
        "weights": "sha",
        "positive": None,
        "data": ("sha",),
        "notes": (),
    }
    return TaskInputs(**(defaults | changes))
