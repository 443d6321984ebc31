"""Vectors of texts from a backbone as it was pretrained: the mean over its tokens' last states."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModel, AutoTokenizer

from edgedistill.errors import TrainingFailed
from edgedistill_serve.scorer import available_cores
from edgedistill_serve.task import texts_of

Vectors: TypeAlias = npt.NDArray[np.float32]


def embedder(backbone: Path, max_tokens: int) -> Callable[[Sequence[Mapping[str, str]]], Vectors]:
    """Return what embeds rows.

    A row's vector is the mean of the last layer's states over all its tokens (mean pooling, Reimers and Gurevych 2019),
    scaled to length 1. Rows are embedded one at a time and on one thread each, so that no other row touches a vector.

    Args:
        backbone: A folder with a model and its tokenizer.
        max_tokens: Where a longer row is cut.

    Returns:
        A function from the inputs of rows to vectors of shape (rows, width).

    Raises:
        TrainingFailed: transformers cannot load the folder.
    """
    try:
        options = {"local_files_only": True, "trust_remote_code": False}
        tokenizer = AutoTokenizer.from_pretrained(backbone, **options)
        model = AutoModel.from_pretrained(backbone, use_safetensors=True, **options).float().eval()
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise TrainingFailed(
            f"the backbone cannot embed texts ({str(error).splitlines()[0]})",
            where=str(backbone),
            mend="Choose another `student.backbone`, or `few_shot_choice: balanced`.",
        ) from error

    def one(inputs: Mapping[str, str]) -> Vectors:
        with torch.inference_mode():
            encoded = tokenizer(*texts_of(inputs), truncation=True, max_length=max_tokens, return_tensors="pt")
            return _mean(model(**encoded).last_hidden_state[0])

    def embed(rows: Sequence[Mapping[str, str]]) -> Vectors:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(available_cores()) as callers:
                return np.array(list(callers.map(one, rows)), dtype=np.float32).reshape(len(rows), -1)
        finally:
            torch.set_num_threads(threads)

    return embed


def _mean(states: Any) -> Vectors:
    vector: Vectors = states.mean(dim=0).numpy()
    return vector / max(float(np.linalg.norm(vector)), 1e-12)
