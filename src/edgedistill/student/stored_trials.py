"""What the store says of a trial, in our words."""

from dataclasses import asdict
from typing import Literal

from optuna.trial import FrozenTrial, TrialState

from edgedistill.student.trial import Setting
from edgedistill.student.types import Epoch, Trial


def setting_of(trial: FrozenTrial) -> Setting:
    """Return what a trial was run with."""
    return Setting(**trial.params, seed=trial.user_attrs["seed"])


def trial_of(trial: FrozenTrial) -> Trial:
    """Return a trial that is over."""
    attributes = trial.user_attrs
    failure, mend = attributes.get("failure", ("", None))
    outcomes: dict[TrialState, Literal["done", "pruned", "failed"]] = {
        TrialState.COMPLETE: "done",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    return Trial(
        **asdict(setting_of(trial)),
        history=tuple(Epoch(**epoch) for epoch in attributes["history"]),
        seconds=attributes["seconds"],
        outcome=outcomes[trial.state],
        failure=failure,
        mend=mend,
    )
