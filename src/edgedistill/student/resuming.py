"""A trial's state after its last finished epoch, on disk, so that a killed training goes on from there.

folder/epoch-0003/     whole, for it is written aside and moved into place; the epoch before it is then removed
├── state.json         history, learning-rate schedule, random states, and the SHA-256 of the files beside it
├── weights.safetensors    what training changes; the rest is the backbone's
├── optimizer.safetensors
└── best.safetensors   the weights of the best epoch so far
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from edgedistill.errors import SearchBrokenOff
from edgedistill.student.chance import draw_from, drawn_so_far
from edgedistill.student.types import Epoch

_WEIGHTS, _OPTIMIZER, _BEST, _STATE = "weights.safetensors", "optimizer.safetensors", "best.safetensors", "state.json"


class Unfinished:
    """What is kept of a trial that may be killed.

    Args:
        folder: The trial's own; made when its first epoch is over.
        mark: Fingerprint of everything that decides the outcome, as `edgedistill.student.marks.mark_of` makes it.
        on_note: Told, in a sentence, why what lies in the folder is not used.
    """

    def __init__(self, folder: Path, mark: str, on_note: Callable[[str], None]) -> None:
        self._folder, self._mark = folder, mark
        self._place, self._state = self._found(on_note)

    @property
    def history(self) -> tuple[Epoch, ...]:
        """The finished epochs; none where there is nothing to go on from."""
        return tuple(Epoch(**epoch) for epoch in self._state.get("history", ()))

    def load_best(self, model: Any) -> None:
        """Give the model the weights of the best finished epoch."""
        _load(model, load_file(self._place / _BEST))

    def load(self, model: Any, optimizer: torch.optim.Optimizer, schedule: Any) -> None:
        """Put model, optimizer and learning-rate schedule where they were after the last finished epoch."""
        _load(model, load_file(self._place / _WEIGHTS))
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in load_file(self._place / _OPTIMIZER).items():
            number, _, what = name.partition(".")
            moments.setdefault(int(number), {})[what] = tensor
        optimizer.load_state_dict({"state": moments, "param_groups": self._state["groups"]})
        schedule.load_state_dict(self._state["schedule"])

    def load_chance(self) -> None:
        """Let every random generator go on where it was."""
        draw_from(self._state["chance"])

    def save(self, history: Sequence[Epoch], model: Any, optimizer: torch.optim.Optimizer, schedule: Any) -> None:
        """Keep the state after an epoch in the place of the one before.

        Raises:
            SearchBrokenOff: No room, or no permission; the state before it stays whole.
        """
        place = self._folder / f"epoch-{len(history):04d}"
        aside = place.with_name(f"{place.name}.part")
        try:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            state = self._written(aside, history, model, optimizer, schedule)
            aside.rename(place)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise SearchBrokenOff(
                f"the state of training cannot be written ({getattr(error, 'strerror', None) or error})",
                where=str(self._folder),
                mend="Make room there, or give write permission; the epochs that are over are kept.",
            ) from error
        before, self._place, self._state = self._place, place, state
        if before != self._folder:
            shutil.rmtree(before, ignore_errors=True)

    def _written(
        self, aside: Path, history: Sequence[Epoch], model: Any, optimizer: torch.optim.Optimizer, schedule: Any
    ) -> dict[str, Any]:
        save_file(_changing(model), aside / _WEIGHTS)
        if max(history, key=lambda epoch: epoch.merit) is history[-1]:
            _twin(aside / _WEIGHTS, aside / _BEST)
        else:
            _twin(self._place / _BEST, aside / _BEST)
        told = optimizer.state_dict()
        moments = {
            f"{number}.{what}": tensor.contiguous()
            for number, moment in told["state"].items()
            for what, tensor in moment.items()
        }
        save_file(moments, aside / _OPTIMIZER)
        state = {
            "mark": self._mark,
            "history": [asdict(epoch) for epoch in history],
            "groups": told["param_groups"],
            "schedule": schedule.state_dict(),
            "chance": drawn_so_far(),
            "files": {name: _digest(aside / name) for name in (_WEIGHTS, _OPTIMIZER, _BEST)},
        }
        (aside / _STATE).write_text(json.dumps(state), "utf-8")
        return state

    def _found(self, on_note: Callable[[str], None]) -> tuple[Path, dict[str, Any]]:
        nothing: tuple[Path, dict[str, Any]] = self._folder, {}
        places = sorted(place for place in self._folder.glob("epoch-*") if place.suffix != ".part")
        if not places:
            return nothing
        state = _read(places[-1])
        if state is None:
            on_note("What an interrupted training left is damaged: its trial begins anew.")
        elif state["mark"] != self._mark:
            on_note("What an interrupted training left is of other rows, settings or tools: its trial begins anew.")
        else:
            return places[-1], state
        shutil.rmtree(self._folder, ignore_errors=True)
        return nothing


def _read(place: Path) -> dict[str, Any] | None:
    """The state that lies there, or None where it is not whole."""
    try:
        state: dict[str, Any] = json.loads((place / _STATE).read_text("utf-8"))
        whole = all(_digest(place / name) == sha256 for name, sha256 in state["files"].items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return state if whole and "mark" in state else None


def _changing(model: Any) -> dict[str, torch.Tensor]:
    """The weights that training changes, and what else the model keeps beside weights."""
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    kept = model.state_dict()
    weights |= {name: tensor for name, tensor in model.named_buffers() if name in kept}
    return {name: tensor.detach().contiguous() for name, tensor in weights.items()}


def _load(model: Any, weights: Mapping[str, torch.Tensor]) -> None:
    places = dict(model.named_parameters()) | dict(model.named_buffers())
    with torch.no_grad():
        for name, tensor in weights.items():
            places[name].copy_(tensor)


def _twin(file: Path, to: Path) -> None:
    """The same bytes under a second name; a copy where the file system has no second names."""
    try:
        os.link(file, to)
    except OSError:
        shutil.copyfile(file, to)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
