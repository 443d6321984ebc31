"""The section `student`: the small model, its loss, and how it is trained."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from edgedistill.project.section import Count, Learning, Section, Seed
from edgedistill_serve.task.task import first_repeated


class LoraSection(Section):
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) added to frozen weights."""

    rank: Count = 16
    alpha: Count = 32
    """Scaling: the adapters' output is multiplied by ``alpha / rank``."""
    targets: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1, strict=False)] = (
        "all-linear",
    )
    """Names of the layers with adapters, such as ``q_proj``. ``all-linear`` means every linear layer except the head,
    which Dettmers et al. 2023 (arXiv:2305.14314, section 4) found necessary to match full fine-tuning."""


class LossSection(Section):
    """The training loss: hard or soft targets, and whether it uses the order of ordinal labels."""

    old_keys: ClassVar[Mapping[str, str]] = {"labels": "targets", "scale": "ordinal"}

    targets: Literal["hard", "soft", "both"] = "hard"
    """``hard``: the row's label. ``soft``: the shares of the teacher's votes. ``both``: a weighted sum of the two
    losses. For a row whose shares hold one label (a human code, a synthetic row) all three are equal."""
    soft_weight: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Weight of the soft loss with ``both``."""
    temperature: Annotated[float, Field(ge=0.1, le=100)] = 1.0
    """Divides the logits in the soft loss (Hinton et al. 2015); above 1, labels with small shares count for more."""
    class_weights: Literal["none", "balanced"] = "none"
    """``balanced``: weights inversely proportional to label frequencies, as in scikit-learn."""
    ordinal: Literal["nominal", "cumulative", "expected_score"] = "nominal"
    """For ``kind: ordinal``. ``nominal`` ignores the order of labels; ``cumulative`` is a binary loss at each threshold
    of the scale; ``expected_score`` adds the squared error of the expected score."""

    @model_validator(mode="after")
    def _settings_apply(self) -> Self:
        if self.targets == "hard" and "temperature" in self.model_fields_set:
            raise ValueError("temperature requires targets: soft or both")
        if self.targets != "both" and "soft_weight" in self.model_fields_set:
            raise ValueError("soft_weight requires targets: both")
        return self


class LearningRange(Section):
    """A range of learning rates, sampled log-uniformly."""

    low: Learning
    high: Learning

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low:g} and high is {self.high:g}; low must be smaller")
        return self


class CountRange(Section):
    """A range of whole numbers, both ends included."""

    low: Count
    high: Count

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low} and high is {self.high}; low must be smaller")
        return self


# Tags with a space: error messages then leave the union's branch out of the key's name.
_LIST, _RANGE = "a list", "a range"


def _form(given: Any) -> str:
    return _RANGE if isinstance(given, dict | LearningRange | CountRange) else _LIST


_LearningList: TypeAlias = Annotated[tuple[Learning, ...], Field(min_length=1, strict=False)]
_CountList: TypeAlias = Annotated[tuple[Count, ...], Field(min_length=1, strict=False)]
LearningRates: TypeAlias = Annotated[
    Annotated[_LearningList, Tag(_LIST)] | Annotated[LearningRange, Tag(_RANGE)], Discriminator(_form)
]
Counts: TypeAlias = Annotated[
    Annotated[_CountList, Tag(_LIST)] | Annotated[CountRange, Tag(_RANGE)], Discriminator(_form)
]
Preset: TypeAlias = Literal["quick", "standard", "thorough"]


class SearchSection(Section):
    """Hyperparameters to try; validation rows choose."""

    method: Literal["grid", "tpe"] = "grid"
    """``grid``: every combination of the lists. ``tpe``: a tree-structured Parzen estimator (Bergstra et al. 2011)
    samples from lists or ranges."""
    trials: Count | None = None
    """Number of settings that ``tpe`` samples; each runs once per seed."""
    learning_rate: LearningRates | None = None
    """Peak learning rates. Default: from `StudentSection.preset`."""
    batch_size: Counts = (16,)
    epochs: Counts | None = None
    """Default: from `StudentSection.preset`."""
    prune: bool = False
    """Median pruning: stop a trial whose best macro-F1 is below the median of earlier trials at the same epoch. The
    first five trials always finish."""

    @model_validator(mode="after")
    def _what_the_method_takes(self) -> Self:
        if self.method == "tpe":
            if self.trials is None:
                raise ValueError("method tpe needs trials, the number of settings to sample")
            return self
        if self.trials is not None:
            raise ValueError("trials requires method tpe; a grid runs every combination of its lists")
        for name in ("learning_rate", "batch_size", "epochs"):
            if _form(getattr(self, name)) == _RANGE:
                raise ValueError(f"{name} is a range, which requires method tpe; a grid takes a list")
        return self

    @property
    def is_complete(self) -> bool:
        """Whether learning rate and epochs are given, so that the preset decides nothing."""
        return self.learning_rate is not None and self.epochs is not None


class ShrinkSection(Section):
    """A second, smaller student: fewer layers, distilled from the first one."""

    layers: Count = 3
    kept: Annotated[tuple[Annotated[int, Field(ge=0)], ...] | None, Field(strict=False)] = None
    """Layers of the first student to start from, counted from 0. Default: evenly spaced."""
    vocabulary: Literal["cut", "full"] = "cut"
    """``cut`` drops the tokens that no training text needs."""
    epochs: Count = 10
    learning_rate: Learning = 1e-4
    batch_size: Count = 16
    temperature: Annotated[float, Field(ge=0.1, le=100)] = 2.0
    """Distillation temperature: divides both students' logits."""
    seed: Seed = 0
    export: bool = False
    """Whether to evaluate and export the smaller student instead of the first."""

    @model_validator(mode="after")
    def _kept_are_layers(self) -> Self:
        if self.kept is not None and (len(self.kept) != self.layers or list(self.kept) != sorted(set(self.kept))):
            raise ValueError(f"kept must list {self.layers} different layers in ascending order")
        return self


def _name_to_section(given: object) -> object:
    return {"backbone": given} if isinstance(given, str) else given


class AssistantSection(Section):
    """A large student that is fine-tuned first and teaches the small one."""

    backbone: Annotated[str, Field(min_length=1)]
    """As `StudentSection.backbone`."""
    preset: Preset = "standard"
    learning_rate: Learning | None = None
    """Peak learning rate. Default: from ``preset``."""
    epochs: Count | None = None
    """Default: from ``preset``."""
    batch_size: Count = 16
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, strict=False)] = (0,)
    """One assistant is trained per seed; their probabilities are averaged."""

    @model_validator(mode="after")
    def _preset_decides(self) -> Self:
        if "preset" in self.model_fields_set and self.search.is_complete:
            raise ValueError("learning_rate and epochs are given, so that preset decides nothing; remove one of them")
        return self

    @property
    def search(self) -> SearchSection:
        """The settings as a search of one trial."""
        return SearchSection(
            learning_rate=None if self.learning_rate is None else (self.learning_rate,),
            epochs=None if self.epochs is None else (self.epochs,),
            batch_size=(self.batch_size,),
        )


Size: TypeAlias = Literal["nano", "frozen"] | Count
"""A kind of student, or a number of layers of the backbone."""


class StudentSection(Section):
    """The student: the small model and how it is trained."""

    old_keys: ClassVar[Mapping[str, str]] = {"objective": "loss"}

    backbone: Annotated[str, Field(min_length=1)] = "minilm"
    """A name of `edgedistill.backbones.BACKBONES`, a folder (relative to the project file), or a name on the
    Hugging Face Hub."""
    max_tokens: Annotated[int, Field(ge=8, le=8192)] | None = None
    """Longest input in tokens; longer ones are cut, the context first. Default: the 99th percentile of the training
    rows, at most 512 and at most what the backbone reads; `mix` records it."""
    kind: Literal["fine-tuned", "frozen", "nano"] = "fine-tuned"
    """``frozen``: the backbone is not trained; a linear classifier on its first token is fitted. ``nano``: a vector for
    each token, from the backbone, and a small classifier of their mean are trained; the bundle has at most 3 MB."""
    vocabulary: Literal["full", "cut"] = "full"
    """``cut`` drops, before training, the tokens of the backbone that no text to train on needs."""
    architecture: Literal["auto", "bi-encoder", "cross-encoder"] = "auto"
    """How a task with a question or a reference answer is read. ``bi-encoder``: context and response apart, whose
    vectors are compared; the backbone must be a BERT. ``cross-encoder``: as one text. ``auto``: as the backbone was
    trained, a bi-encoder with minilm, bge-small and e5-multilingual, a cross-encoder with others."""
    loss: LossSection = LossSection()
    patience: Count | None = None
    """Early stopping: end a trial after this many epochs without improvement on validation rows. Default: train all
    epochs. The learning rate schedule is not shortened."""
    peft: Literal["lora"] | None = None
    """``lora``: train adapters of a decoder such as Mistral, and merge them into its weights."""
    lora: LoraSection = LoraSection()
    preset: Preset = "standard"
    """How long to train. Learning rate and epochs follow from the number of training rows and the backbone
    (`edgedistill.student.presets`), except those that ``search`` gives."""
    search: SearchSection = SearchSection()
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, strict=False)] = (0,)
    prior_correction: Literal["auto"] | bool = "auto"
    """Whether constants are added to the logits so that the student's label shares on the validation rows are those of
    the human codes (`edgedistill.student.prior_correction`). ``auto``: where most training rows have a label of a
    language model."""
    assistant: Annotated[AssistantSection | None, BeforeValidator(_name_to_section)] = None
    """A backbone, or a mapping. A larger student that is trained on the same rows, and whose probabilities for all
    texts are what the student learns."""
    shrink: ShrinkSection | None = None
    """A second, smaller student, written to the folder ``shrunk``."""
    sizes: Annotated[tuple[Size, ...], Field(min_length=2, strict=False)] | None = None
    """Several students: numbers of the backbone's layers, ``nano`` and ``frozen``. The smallest that is not worse than
    the best is evaluated and exported."""
    not_worse_by: Annotated[float, Field(gt=0, lt=1)] = 0.03
    """With ``sizes``: the κ that the smallest may lose."""

    @model_validator(mode="after")
    def _settings_are_read(self) -> Self:
        if self.peft is None and "lora" in self.model_fields_set:
            raise ValueError("lora requires peft: lora")
        idle = sorted({"assistant", "loss", "patience", "peft", "preset"} & self.model_fields_set)
        if self.kind == "frozen" and idle:
            raise ValueError(f"kind: frozen does not train the backbone; remove {', '.join(idle)}")
        if self.kind != "fine-tuned" and self.architecture != "auto":
            raise ValueError(f"kind: {self.kind} has an architecture of its own; remove architecture")
        if "preset" in self.model_fields_set and self.search.is_complete:
            raise ValueError(
                "search gives learning_rate and epochs, so that preset decides nothing; remove one of them"
            )
        if self.kind == "nano" and (other := sorted({"peft", "shrink"} & self.model_fields_set)):
            raise ValueError(f"kind: nano has no layers; remove {', '.join(other)}")
        if self.kind == "nano" and self.vocabulary == "cut":
            raise ValueError("kind: nano cuts a vocabulary that does not fit into its bundle; remove vocabulary")
        if self.assistant and (idle := sorted({"targets", "class_weights"} & self.loss.model_fields_set)):
            raise ValueError(f"the assistant's probabilities are the targets; remove loss.{idle[0]}, or assistant")
        return self

    @model_validator(mode="after")
    def _sizes_stand_alone(self) -> Self:
        if self.sizes is None and "not_worse_by" in self.model_fields_set:
            raise ValueError("not_worse_by requires sizes")
        if self.sizes and self.kind != "fine-tuned":
            raise ValueError(f"sizes trains several kinds; remove kind: {self.kind} and add {self.kind} to sizes")
        if self.sizes and (other := sorted({"peft", "shrink"} & self.model_fields_set)):
            raise ValueError(f"sizes trains the smaller students itself; remove {', '.join(other)}")
        if repeated := first_repeated(self.sizes or ()):
            raise ValueError(f"sizes names {repeated} twice")
        return self

    @property
    def token_limit(self) -> int:
        """``max_tokens``, once it is known: as given, or as it follows from the training rows.

        Raises:
            ValueError: It is not known yet.
        """
        if self.max_tokens is None:
            raise ValueError("max_tokens is not known before the training rows are")
        return self.max_tokens

    @property
    def adapters(self) -> LoraSection | None:
        """The LoRA settings; None for full fine-tuning."""
        return self.lora if self.peft else None
