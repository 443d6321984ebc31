"""Fine-tuning a small pretrained model on the training set.

types.py             settings and results: SpeedSettings, Epoch, Trial, TrainedStudent
data.py              from rows to padded batches of token ids
model.py             the pretrained backbone, its classification head and LoRA adapters
losses.py            training losses
label_thresholds.py  decision thresholds of a multilabel student
trial.py             one fine-tuning run, resumable after each epoch
checkpoints.py       checkpoint folders, and the best checkpoint so far
search.py            the hyperparameter search and its storage
training.py          train_student(): every setting of the search with every seed
frozen.py            a linear classifier on the frozen encoder, and text embeddings
prior_correction.py  the finished student's label shares are moved to those of the human codes
compression.py       compress_student(): a second student with fewer layers
"""

from edgedistill.student.model import backbone_digests, backbone_folder
from edgedistill.student.training import train_student
from edgedistill.student.types import Epoch, SpeedSettings, TrainedStudent, TrainingProgress, Trial

__all__ = [
    "Epoch",
    "SpeedSettings",
    "TrainedStudent",
    "TrainingProgress",
    "Trial",
    "backbone_digests",
    "backbone_folder",
    "train_student",
]
