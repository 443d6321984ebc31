"""A backbone without the tokens that no text needs, so that a student is trained with the vocabulary it is served with.

A cut after training changes the tokens of new texts, and with them labels that the student has learned
(docs/decisions/0058-vocabulary-cut-for-unigram.md). Cut before training, the student learns from what it will read.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgedistill.errors import TrainingFailed
from edgedistill.student.checkpoints import beside, copy_files, replacing
from edgedistill.student.model import load_model, load_tokenizer_and_padding, quiet_transformers
from edgedistill_export.authors import Author
from edgedistill_export.errors import CheckpointError, ExportFailed
from edgedistill_export.quantize.vocabulary import VocabularyCut, cut_files
from edgedistill_serve.task.task import Task


def cut_backbone(
    backbone: Path,
    folder: Path,
    texts: Sequence[Mapping[str, str]],
    task: Task,
    *,
    authors: Sequence[Author] = (),
) -> VocabularyCut:
    """Write a backbone whose vocabulary has only the tokens that texts need, and frequent ones.

    Args:
        backbone: A folder as `backbone_folder` returns it.
        folder: The folder to write; existing content is replaced at the end.
        texts: The task's inputs of every text that may be trained on; neither validation nor test rows.
        task: Its labels are the classes.
        authors: Who wrote each text, as in `edgedistill_export.authors`; empty if that is not known.

    Raises:
        TrainingFailed: The backbone cannot be loaded, or its vocabulary cannot be cut.
        SearchInterrupted: The folder cannot be written.
    """
    with quiet_transformers(), beside(folder) as aside:
        model = load_model(backbone, task)
        whole = aside / "whole"
        whole.mkdir()
        load_tokenizer_and_padding(backbone, model, whole)
        for file in (backbone / "config.json", *backbone.glob("*.safetensors")):
            _link(file, whole / file.name)
        try:
            cut = cut_files(whole, model, texts, aside / "cut", authors=authors)
        except (ExportFailed, CheckpointError) as error:
            raise TrainingFailed(
                f"the backbone's vocabulary cannot be cut: {error.what}",
                where="student.vocabulary",
                hint="Set student.vocabulary to full, or choose a backbone with a WordPiece, byte-level BPE or Unigram "
                "tokenizer.",
            ) from error
        with replacing(folder) as new:
            copy_files(aside / "cut", new)
    return cut


def _link(file: Path, to: Path) -> None:
    """Link to a file, also on another file system; where links are not allowed, as on Windows, copy it."""
    try:
        to.symlink_to(file.resolve())
    except OSError:
        shutil.copyfile(file, to)
