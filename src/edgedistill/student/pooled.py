"""What a backbone makes of a row as it was pretrained: the mean of its tokens' last states, and its first token's."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from edgedistill.student.model import check_room, load_model, load_padding
from edgedistill.student.quiet import transformers_quiet
from edgedistill_serve.encoding import Encoded, Encoder
from edgedistill_serve.scorer import available_cores
from edgedistill_serve.task import Task, inputs_of

Pooling: TypeAlias = Literal["mean", "first"]
POOLINGS: tuple[Pooling, ...] = ("mean", "first")
States: TypeAlias = Mapping[Pooling, npt.NDArray[np.float32]]
"""By pooling, vectors of shape (rows, width)."""


def pooled(backbone: Path, task: Task, max_tokens: int, rows: Sequence[Mapping[str, str]]) -> States:
    """Read rows once with a backbone, as a student would read them.

    Rows are read one at a time and on one thread each, so that no other row touches a vector.

    Args:
        backbone: A folder as `backbone_folder` returns it.
        task: Its inputs are read.
        max_tokens: Where a longer row is cut, its context first.
        rows: The task's inputs of each row.

    Raises:
        TrainingFailed: The backbone cannot be loaded, or has fewer positions than ``max_tokens``.
    """
    with transformers_quiet(), TemporaryDirectory() as folder:
        model = load_model(backbone, task)
        padding = load_padding(backbone, model, Path(folder))
        check_room(model, max_tokens)
        encoder = Encoder(Path(folder) / "tokenizer.json", max_tokens)
    encoded = encoder.encode([inputs_of(row, task) for row in rows])
    read = model.base_model.eval()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(available_cores()) as callers:
            states = list(callers.map(lambda row: _states(read, row, segments=padding.segments), encoded))
    finally:
        torch.set_num_threads(threads)
    width = model.config.hidden_size
    both = np.array(states, dtype=np.float32).reshape(len(rows), len(POOLINGS), width)
    return {pooling: both[:, place] for place, pooling in enumerate(POOLINGS)}


def _states(read: Any, row: Encoded, *, segments: bool) -> npt.NDArray[np.float32]:
    """Both poolings of a row, of shape (2, width)."""
    ids = torch.tensor([row.ids])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if segments:
        inputs["token_type_ids"] = torch.tensor([row.type_ids])
    with torch.inference_mode():
        states = read(**inputs).last_hidden_state[0]
        both: npt.NDArray[np.float32] = torch.stack([states.mean(dim=0), states[0]]).numpy()
    return both
