"""The labelling interface of a project in Label Studio's XML: the codebook, the texts, and one control for the code.

Format: https://labelstud.io/tags. A tag's ``value`` may hold variables, such as ``$response``, which Label Studio
replaces by the task's data; the texts of a codebook must not be taken for them.
"""

import re
from typing import Literal, TypeAlias
from xml.etree import ElementTree as ET

from edgedistill.errors import ArgumentError, DataError
from edgedistill.project.schema import Project
from edgedistill_serve.task.task import NO_LABEL, Task, quote_label

Control: TypeAlias = Literal["choices", "rating", "taxonomy"]
"""The tag with which people code: ``choices`` lists the labels, ``taxonomy`` shows them in a menu, for long codebooks,
and ``rating`` shows stars, for ordinal tasks."""

CONTROL = "code"
"""Name of the control in the configuration and in annotations."""
_VARIABLE = re.compile(r"\$(?=[\w\[\]{}.])")
_WORD_JOINER = "\u2060"
_INVALID_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TITLES = {
    "question": "Question",
    "reference_answer": "Reference answer",
    "rubric": "Rubric",
    "response": "Response",
}


def labelling_configuration(project: Project, control: Control = "choices") -> str:
    """Return the labelling interface of a project.

    It shows the instructions, the definitions of the labels and each input of the task, and has one required control
    named ``code``. A multilabel task also has the choice ``none``, by which people say that no label applies.

    Args:
        project: The project.
        control: The tag with which people code.

    Returns:
        A labelling configuration, to be pasted into Settings > Labeling Interface > Code.

    Raises:
        ArgumentError: A task that is not ordinal cannot be coded with stars.
        DataError: A label has a character that XML cannot hold.
    """
    task = project.task.task
    if control == "rating" and task.kind != "ordinal":
        raise ArgumentError(
            f"a {task.kind} task cannot be coded by a rating",
            hint="Stars are for ordinal tasks; use choices or taxonomy.",
        )
    for name in task.names:
        if _INVALID_IN_XML.search(name):
            raise DataError(f"the label {quote_label(name)} has a character that XML cannot hold", hint="Rename it.")
    view = ET.Element("View")
    _add_codebook(view, project, control)
    for name in task.inputs:
        ET.SubElement(view, "Header", value=_TITLES[name], size="4")
        ET.SubElement(view, "Text", name=name, value=f"${name}", valueType="text")
    _add_control(view, task, control)
    ET.indent(view)
    return ET.tostring(view, encoding="unicode") + "\n"


def _add_codebook(view: ET.Element, project: Project, control: Control) -> None:
    task = project.task.task
    panel = ET.SubElement(ET.SubElement(view, "Collapse", open="true"), "Panel", value="Codebook")
    inside = ET.SubElement(panel, "View")
    lines = [line for line in project.task.instructions.splitlines() if line.strip()]
    for rank, label in enumerate(task.labels, start=1):
        stars = f"{rank} = " if control == "rating" else ""
        lines.append(f"{stars}{label.name}: {label.definition}" if label.definition else f"{stars}{label.name}")
    for line in lines:
        ET.SubElement(inside, "Header", value=_shown(line), size="5")


def _add_control(view: ET.Element, task: Task, control: Control) -> None:
    shared = {"name": CONTROL, "toName": "response", "required": "true"}
    if control == "rating":
        ET.SubElement(view, "Rating", shared, maxRating=str(len(task.names)))
        return
    if control == "choices":
        choice = "multiple" if task.kind == "multilabel" else "single"
        parent = ET.SubElement(view, "Choices", shared, choice=choice, showInline="false")
    else:
        usages = {} if task.kind == "multilabel" else {"maxUsages": "1"}
        parent = ET.SubElement(view, "Taxonomy", shared, leafsOnly="true", **usages)
    choices = [(label.name, label.definition) for label in task.labels]
    if task.kind == "multilabel":
        choices.append((NO_LABEL, "No label applies."))
    for name, definition in choices:
        shown = _shown(name)
        alias = {} if shown == name else {"alias": name}  # what annotations hold instead of what is shown
        hint = {"hint": _shown(definition)} if definition else {}
        ET.SubElement(parent, "Choice", {"value": shown, **alias, **hint})


def _shown(text: str) -> str:
    """Return a text that Label Studio shows as it is: without variables, and without what XML cannot hold."""
    return _VARIABLE.sub(f"${_WORD_JOINER}", _INVALID_IN_XML.sub("\ufffd", text))
