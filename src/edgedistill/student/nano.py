"""The nano student: a vocabulary that fits into the bundle, a vector of each of its tokens, and its training.

A token's vector starts from the backbone's word embedding, reduced by a principal component analysis. Training changes
the vectors and the classifier together (`edgedistill.student.training`). As in model2vec (Tulkens and van Dongen 2024),
vectors could also start from what the whole backbone gives for a token alone, weighted by smooth inverse frequency:
docs/decisions/0057-a-ladder-of-sizes.md compares them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from sklearn.decomposition import PCA
from tokenizers import Tokenizer

from edgedistill.data.types import MixtureRow, ValidationRows
from edgedistill.errors import TrainingFailed
from edgedistill.project.student import StudentSection
from edgedistill.student.checkpoints import beside, copy_files, replacing
from edgedistill.student.model import load_model, load_tokenizer_and_padding, mark_response, quiet_transformers
from edgedistill.student.training import train_student
from edgedistill.student.types import SpeedSettings, TrainedStudent, TrainingProgress
from edgedistill_export.authors import Author
from edgedistill_export.checkpoint import Checkpoint
from edgedistill_export.errors import ExportFailed
from edgedistill_export.nano import NanoConfig, NanoForSequenceClassification
from edgedistill_export.quantize.vocabulary import cut_vocabulary
from edgedistill_serve.task.contexts import has_context
from edgedistill_serve.task.task import Task

BUNDLE_BYTES = 3_000_000
"""The bytes of a bundle with an int8 table."""
WIDTH = 64
"""Numbers in a token's vector (docs/decisions/0057-a-ladder-of-sizes.md has the figures of others)."""
NANO_SPEED = SpeedSettings(bf16=False, frozen_embeddings=False)
"""The speed settings for training: the table is what is trained."""
_LEAST_WIDTH = 32
_OTHER_BYTES = 600_000
"""The classifier, the novelty and the smaller files of a bundle, rounded up."""
_SCALE_BYTES = 4
_TABLE = "embeddings.weight"

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class NanoStart:
    """A nano student before training.

    Attributes:
        folder: Config, tokenizer and table, but no classifier, which is initialized with the seed of each trial.
        tokens: Number of tokens of its vocabulary.
        backbone_tokens: Number of tokens of the backbone's.
        width: Numbers in a token's vector.
    """

    folder: Path
    tokens: int
    backbone_tokens: int
    width: int


def train_nano_student(
    mixture: Sequence[MixtureRow],
    validation: ValidationRows,
    task: Task,
    section: StudentSection,
    backbone: Path,
    folder: Path,
    start: Path,
    *,
    texts: Sequence[Mapping[str, str]] = (),
    authors: Sequence[Author] = (),
    kept: Path | None = None,
    progress: Callable[[TrainingProgress], None] | None = None,
) -> tuple[NanoStart, TrainedStudent]:
    """Train a nano student: the table and the classifier together, as `train_student` trains a backbone.

    Args:
        mixture: Training rows.
        validation: Human-coded rows that select the epoch.
        task: Its labels, in order, become the classes.
        section: Search, seeds, loss and maximum length in tokens.
        backbone: A folder as `backbone_folder` returns it.
        folder: The Hugging Face checkpoint to write.
        start: The folder for the student before training.
        texts: The texts whose tokens the vocabulary keeps; by default those of the mixture.
        authors: Who wrote each of them, as in `edgedistill_export.authors`; empty if that is not known.
        kept: As in `train_student`.
        progress: As in `train_student`.

    Raises:
        TrainingFailed: As in `write_nano_start` and `train_student`.
        SearchInterrupted: A file cannot be written.
    """
    texts = texts or [row.inputs for row in mixture]
    begun = write_nano_start(backbone, start, texts, task, section.token_limit, authors=authors)
    trained = train_student(
        mixture, validation, task, section, start, folder, kept=kept, progress=progress, speed=NANO_SPEED
    )
    return begun, trained


def write_nano_start(
    backbone: Path,
    folder: Path,
    texts: Sequence[Mapping[str, str]],
    task: Task,
    max_tokens: int,
    *,
    authors: Sequence[Author] = (),
    bundle_bytes: int = BUNDLE_BYTES,
) -> NanoStart:
    """Write a nano student that can be trained like a backbone.

    Args:
        backbone: A folder as `backbone_folder` returns it: its tokenizer and its word embeddings.
        folder: The folder to write; existing content is replaced at the end.
        texts: The task's inputs of every text whose tokens matter most; neither validation nor test rows.
        task: Its labels are the classes.
        max_tokens: The maximum length of a row in tokens.
        authors: Who wrote each text, as in `edgedistill_export.authors`; empty if that is not known.
        bundle_bytes: The size of the bundle, for which the vocabulary is cut.

    Raises:
        TrainingFailed: The backbone cannot be loaded, or its vocabulary does not fit and cannot be cut.
        SearchInterrupted: The folder cannot be written.
    """
    with quiet_transformers(), beside(folder) as aside:
        model = load_model(backbone, task)
        whole = aside / "whole"
        whole.mkdir()
        padding = load_tokenizer_and_padding(backbone, model, whole)
        mark_response(whole / "tokenizer.json")
        known = model.get_input_embeddings().num_embeddings
        width = min(WIDTH, model.get_input_embeddings().embedding_dim)
        _write(whole, _config(task, known, width, padding.token), np.zeros((known, width), dtype=np.float32))
        student = Checkpoint.load(whole, task, max_tokens)
        reduced, width = _fitting(student, texts, authors, bundle_bytes, width, aside)
        ids = _backbone_ids(whole / "tokenizer.json", reduced / "tokenizer.json")
        embeddings = model.get_input_embeddings().weight.detach().float().numpy()
        vectors = reduce_vectors(embeddings[ids], width)
        config = json.loads((reduced / "config.json").read_text("utf-8"))
        with replacing(folder) as new:
            copy_files(reduced, new)
            for name in ("config.json", "model.safetensors"):
                (new / name).unlink()  # they are hard links
            _write(new, _config(task, len(ids), width, int(config["pad_token_id"])), vectors, classifier=False)
    return NanoStart(folder, len(ids), known, width)


def _config(task: Task, tokens: int, width: int, padding: int) -> NanoConfig:
    return NanoConfig(
        vocab_size=tokens,
        hidden_size=width,
        type_vocab_size=2 if has_context(task) else 1,
        pad_token_id=padding,
        id2label=dict(enumerate(task.names)),
        label2id={name: number for number, name in enumerate(task.names)},
        problem_type=f"{'multi' if task.kind == 'multilabel' else 'single'}_label_classification",
    )


def _write(folder: Path, config: NanoConfig, table: Vectors, *, classifier: bool = True) -> None:
    model = NanoForSequenceClassification(config)
    with torch.no_grad():
        model.embeddings.weight.copy_(torch.from_numpy(table))
    model.save_pretrained(folder)
    if not classifier:
        save_file({_TABLE: model.embeddings.weight.detach()}, folder / "model.safetensors", metadata={"format": "pt"})


def _fitting(
    student: Checkpoint,
    texts: Sequence[Mapping[str, str]],
    authors: Sequence[Author],
    bundle_bytes: int,
    width: int,
    aside: Path,
) -> tuple[Path, int]:
    """Return a checkpoint whose bundle fits, and the width of its vectors.

    The full vocabulary if it fits; else the tokens of the texts and as many frequent ones as fit; else narrower
    vectors, too.
    """
    file = student.folder / "tokenizer.json"
    known = student.model.get_input_embeddings().num_embeddings
    per_token = file.stat().st_size / known + _SCALE_BYTES
    room = bundle_bytes - _OTHER_BYTES
    if known * (width + per_token) <= room:
        return student.folder, width
    try:
        _, needed = cut_vocabulary(student, texts, aside / "needed", common=0, authors=authors)
        most = int(room / (width + per_token))
        if needed.pieces > most:
            width = int(room / needed.pieces - per_token) // 8 * 8
            most = needed.pieces
        if width < _LEAST_WIDTH:
            raise TrainingFailed(
                f"{needed.pieces} tokens that the texts need do not fit into a nano student of "
                f"{bundle_bytes / 1e6:g} MB",
                where="student.kind",
                hint="Choose a backbone with a smaller vocabulary, or set kind: fine-tuned.",
            )
        cut, _ = cut_vocabulary(student, texts, aside / "cut", common=max(0, most - needed.pieces), authors=authors)
    except ExportFailed as error:
        raise TrainingFailed(
            f"a vocabulary of {known} tokens does not fit into a nano student of {bundle_bytes / 1e6:g} MB, and "
            f"{error.what}",
            where="student.kind",
            hint="Choose a backbone with a WordPiece or byte-level BPE tokenizer, or set kind: fine-tuned.",
        ) from error
    return cut.folder, width


def _backbone_ids(whole: Path, reduced: Path) -> list[int]:
    """Return, for each id of a reduced vocabulary, the token's id in the whole one; 0 for an id without a token."""
    ids = Tokenizer.from_file(str(whole)).get_vocab(with_added_tokens=True)
    kept = Tokenizer.from_file(str(reduced)).get_vocab(with_added_tokens=True)
    found = [0] * (max(kept.values()) + 1)
    for token, number in kept.items():
        found[number] = ids[token]
    return found


def reduce_vectors(vectors: Vectors, width: int) -> Vectors:
    """Reduce tokens' vectors to their first principal components, scaled so that their mean length is 1.

    Args:
        vectors: Shape (tokens, width of the backbone's word embeddings).
        width: Number of components; if there are not as many, the others are 0.

    Returns:
        Shape (tokens, width).
    """
    kept = min(width, *vectors.shape)
    found = PCA(kept, svd_solver="full").fit_transform(vectors.astype(np.float64))
    found /= max(float(np.linalg.norm(found, axis=1).mean()), 1e-12)
    reduced = np.zeros((len(vectors), width), dtype=np.float32)
    reduced[:, :kept] = found
    return reduced
