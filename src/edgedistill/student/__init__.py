"""Fine-tuning a small pretrained model on the mixture.

types.py        Levers, Epoch, Trial, TrainedStudent, TrainingProgress
backbone.py     backbone_folder(): where the pretrained model lies
checks.py       whether mixture and validation rows can train and judge a student
rows.py         from rows to padded batches of token ids
batches.py      which rows make a batch
levers.py       what makes training faster on this machine
model.py        the pretrained model with a fresh classifier, and its tokenizer
heads.py        the classifier that a backbone may bring along
lora.py         adapters beside a decoder's weights
objectives.py   what training makes small
thresholds.py   from which probability a label of several is given
trial.py        one fine-tuning run with one setting and one seed
loop.py         its passes over the mixture
resuming.py     its state after each epoch, so that it goes on after a kill
marks.py        the fingerprint of what decides its outcome
chance.py       where the random generators stand
checkpoint.py   the best student so far, kept aside and moved into place at the end
training.py     train_student(): every setting of the search with every seed
"""

from edgedistill.student.backbone import backbone_folder
from edgedistill.student.training import train_student
from edgedistill.student.types import Epoch, Levers, TrainedStudent, TrainingProgress, Trial

__all__ = [
    "Epoch",
    "Levers",
    "TrainedStudent",
    "TrainingProgress",
    "Trial",
    "backbone_folder",
    "train_student",
]
