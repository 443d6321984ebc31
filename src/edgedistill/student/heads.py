"""The classifier on top of a backbone: whose labels it is for, and from which token it judges."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from edgedistill_serve.task import Task


def note_other_task(backbone: Path, task: Task) -> tuple[str, ...]:
    """Say that a folder's own classifier is not used, where it has one for other labels or another order of them.

    A backbone without a classifier, as pretraining leaves it, needs no word.
    """
    kind, labels = _told(backbone)
    ours = kind.endswith("ForSequenceClassification") and labels == task.names
    if ours or not kind.endswith("Classification"):
        return ()
    named = f"other labels ({', '.join(labels)})" if labels else "labels without names"
    return (f"The backbone holds a classifier for {named}: its encoder is used, and the classifier begins anew.",)


def renew_head(model: Any) -> None:
    """Draw every weight above the encoder of a classifier anew, from torch's generator, in place."""
    fresh = AutoModelForSequenceClassification.from_config(model.config).state_dict()
    with torch.no_grad():
        for name, weights in model.state_dict().items():
            if not name.startswith(f"{model.base_model_prefix}."):
                weights.copy_(fresh[name])


def reads_its_end(model: Any) -> bool:
    """Whether a classifier judges by the last place of a row, as XLNet does: padding must stand before the text.

    A decoder judges by the last token that is no padding, and is padded behind the text as encoders are.
    """
    return getattr(getattr(model, "sequence_summary", None), "summary_type", None) == "last"


def _told(backbone: Path) -> tuple[str, tuple[str, ...]]:
    """The kind of model that a folder's config names, and its labels in their order."""
    try:
        config = json.loads((backbone / "config.json").read_text("utf-8"))
        kinds = [str(kind) for kind in config.get("architectures") or ()]
        labels = {int(number): str(name) for number, name in (config.get("id2label") or {}).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return "", ()
    return (kinds or [""])[0], tuple(labels[number] for number in sorted(labels))
