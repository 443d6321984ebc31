"""Fine-tuning a small pretrained model on the mixture.

types.py        Levers, Epoch, Trial, TrainedStudent, TrainingProgress
backbone.py     backbone_folder(): where the pretrained model lies
checks.py       whether mixture and validation rows can train and judge a student
rows.py         from rows to padded batches of token ids
batches.py      which rows make a batch
levers.py       what makes training faster on this machine
model.py        the pretrained model with a fresh classifier, and its tokenizer
quiet.py        transformers without its logs and bars
heads.py        the classifier that a backbone may bring along
lora.py         adapters beside a decoder's weights
losses.py   what training makes small
thresholds.py   from which probability a label of several is given
trial.py        one fine-tuning run with one setting and one seed
loop.py         its passes over the mixture
resuming.py     its state after each epoch, so that it goes on after a kill
marks.py        the fingerprint of what decides its outcome
chance.py       where the random generators stand
checkpoint.py   a student's folder, written aside and moved into place when it is whole
keeping.py      the best student so far, kept aside
space.py        what a search may try
store.py        the file that it is kept in
stored_trials.py    what that file says of a trial
search.py       which trials it makes, who runs them, what came of them
training.py     train_student(): every setting of the search with every seed
pooled.py       what a backbone makes of a row as it was pretrained
frozen.py       frozen_baseline(): a linear classifier on that
frozen_student.py   the same as a student of its own
embedding.py    vectors of texts from such a backbone
layers.py       a model with fewer layers
shrinking.py    shrink_student(): a second student, taught by the first
side_by_side.py the two beside each other
"""

from edgedistill.student.model import backbone_digests, backbone_folder
from edgedistill.student.training import train_student
from edgedistill.student.types import Epoch, Levers, TrainedStudent, TrainingProgress, Trial

__all__ = [
    "Epoch",
    "Levers",
    "TrainedStudent",
    "TrainingProgress",
    "Trial",
    "backbone_digests",
    "backbone_folder",
    "train_student",
]
