"""The pretrained model with a classifier for the task on top, and its tokenizer."""

import inspect
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from edgedistill.errors import TrainingFailed
from edgedistill.project.lora_section import LoraSection
from edgedistill.student.heads import note_other_task, reads_its_end, renew_head
from edgedistill.student.lora import add_adapters, is_decoder
from edgedistill.student.rows import Padding
from edgedistill_serve.task import Task

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model")

# What transformers and tokenizers raise for a folder that they cannot make sense of.
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
    RuntimeError,
    SafetensorError,
)


def load_model(backbone: Path, task: Task, lora: LoraSection | None = None) -> Any:
    """Load the backbone's weights in fp32 under a classifier with the task's labels.

    The classifier's first weights are drawn from torch's generator. A classifier that the folder already holds is kept
    where it is for this task's labels in this order, and begins anew where it is for others (`note_other_task`).

    Args:
        backbone: A folder as `backbone_folder` returns it.
        task: Its labels become the classes.
        lora: Adapters, to be trained in the place of the weights.

    Raises:
        TrainingFailed: No safetensors, or nothing that transformers can classify with.
        ProjectFileError: Adapters that this model cannot have.
    """
    if not any(backbone.glob("*.safetensors")):
        raise TrainingFailed(
            "the backbone has no *.safetensors weights; pickled ones can run code and are not read",
            where=str(backbone),
            mend="Choose a backbone with safetensors, or convert it with save_pretrained in transformers.",
        )
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            backbone,
            id2label=dict(enumerate(task.names)),
            label2id={name: number for number, name in enumerate(task.names)},
            problem_type=f"{'multi' if task.kind == 'multilabel' else 'single'}_label_classification",
            ignore_mismatched_sizes=True,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except _UNREADABLE as error:
        raise _unusable("the backbone", backbone, error) from error
    if note_other_task(backbone, task):
        renew_head(model)
    if reads_its_end(model):
        # XLNet tells segments apart, and its config has no word for how many: two texts, and the classifying token.
        model.config.type_vocab_size = 3
    return add_adapters(model.float(), lora) if lora else model.float()


def load_padding(backbone: Path, model: Any, folder: Path) -> Padding:
    """Write the backbone's fast tokenizer into ``folder`` and return how the model pads.

    The files of `TOKENIZER_FILES` that the backbone has are copied byte for byte; transformers writes the others. Of a
    decoder without a padding token, only ``tokenizer.json`` is: the others name the end of a text as its padding.

    Raises:
        TrainingFailed: No fast tokenizer can be had, it has no padding token, or it is not the model's.
    """
    if not any(path for pattern in _VOCABULARIES for path in backbone.glob(pattern)):
        # transformers 5 would make a tokenizer that knows no word.
        raise TrainingFailed(
            "the backbone has no tokenizer", where=str(backbone), mend="Put its tokenizer.json beside its weights."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(backbone, local_files_only=True, trust_remote_code=False)
    except _UNREADABLE as error:
        raise _unusable("the backbone's tokenizer", backbone, error) from error
    if not tokenizer.is_fast:
        raise TrainingFailed(
            "the backbone has no fast tokenizer (tokenizer.json), and transformers cannot make one",
            where=str(backbone),
            mend="Choose a backbone that has one.",
        )
    copied: Sequence[str] = TOKENIZER_FILES
    if tokenizer.pad_token_id is None and is_decoder(model):
        # Decoders are pretrained without padding. Any token does that no response ends with.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        copied = TOKENIZER_FILES[:1]
    if tokenizer.pad_token_id is None:
        raise TrainingFailed(
            "the backbone's tokenizer has no padding token",
            where=str(backbone),
            mend="Choose an encoder such as BERT, RoBERTa or DistilBERT.",
        )
    highest, words = max(tokenizer.get_vocab().values()), model.get_input_embeddings().num_embeddings
    if highest >= words:
        raise TrainingFailed(
            f"the tokenizer's ids go up to {highest}, and the model knows {words} tokens",
            where=str(backbone),
            mend="Put the model's own tokenizer beside its weights.",
        )
    _write_tokenizer(tokenizer, backbone, folder, copied)
    return Padding(
        token=tokenizer.pad_token_id,
        segment=tokenizer.pad_token_type_id,
        left=reads_its_end(model),
        segments=_reads_segments(model),
    )


def check_room(model: Any, max_tokens: int) -> None:
    """Read one row of full length, so that too few positions are found before training and not in its midst.

    Raises:
        TrainingFailed: The model has fewer positions than ``max_tokens``.
    """
    # RoBERTa gives padding no position of its own, so the row must be of another token.
    ids = torch.full((1, max_tokens), 1 if getattr(model.config, "pad_token_id", None) == 0 else 0)
    try:
        with torch.inference_mode():
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (IndexError, RuntimeError) as error:
        raise TrainingFailed(
            f"the backbone cannot read max_tokens = {max_tokens} tokens",
            mend=f"Choose a smaller student.max_tokens; the backbone's config says max_position_embeddings = "
            f"{getattr(model.config, 'max_position_embeddings', 'nothing')}.",
        ) from error


def _write_tokenizer(tokenizer: Any, backbone: Path, folder: Path, copied: Sequence[str]) -> None:
    tokenizer.save_pretrained(folder)
    for name in copied:
        if (backbone / name).is_file():
            shutil.copyfile(backbone / name, folder / name)
    special = folder / "special_tokens_map.json"
    if not special.exists():
        special.write_text(json.dumps(tokenizer.special_tokens_map, indent=2) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        if path.name not in TOKENIZER_FILES:
            path.unlink()


def _reads_segments(model: Any) -> bool:
    """Whether the model tells a first text from a second; where it has one segment, the ids say nothing."""
    return (
        getattr(model.config, "type_vocab_size", 0) > 1
        and "token_type_ids" in inspect.signature(model.forward).parameters
    )


def _unusable(what: str, backbone: Path, error: Exception) -> TrainingFailed:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return TrainingFailed(
        f"{what} cannot be loaded ({reason})", where=str(backbone), mend="Choose another `student.backbone`."
    )
