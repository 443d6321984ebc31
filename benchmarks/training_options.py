"""What more can be had from the same labels: options of fine-tuning against the default, on rows of train.csv.

    python benchmarks/training_options.py DATA --out FOLDER --options default layerwise averaged
    python benchmarks/training_options.py DATA --out FOLDER --summary docs/results/training_options.json

DATA is as for `students.py`. Of the shuffled train rows the first 150 validate (they select the epoch, as in the
product), ROWS train, and up to 600 others are the development rows that the figures are from; test files are not read.
Beetle and BABE are trained on a recorded teacher's labels, the others on human codes. A seed changes the training, not
the rows. FOLDER gets a file per run; a run whose file is there is not made again.

    default     the preset `standard`
    layerwise   the learning rate falls by a factor of .85 from each layer to the one below it (Howard & Ruder 2018)
    averaged    the mean of the weights before each step of an epoch is evaluated and kept (Izmailov et al. 2018)
    soup        the mean of the weights of all seeds of `default` (Wortsman et al. 2022)
    r-drop      two dropout masks per batch, and their Kullback-Leibler divergence as a second loss (Wu et al. 2021)
    smoothed    label smoothing of .1
    robust      generalized cross-entropy with q = .7 (Zhang & Sabuncu 2018), made for noisy labels
    masked      masked-language training on all texts of train.csv first, 3 epochs at 5e-5 (Gururangan et al. 2020)
    pairs       contrastive training on the training rows first: a correct response and its reference answers, against
                the answers to other questions in the batch (Henderson et al. 2017), 2 epochs at 2e-5
"""

import argparse
import json
import random
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from students import TASKS, interval, labels_of, read, statistics_of, votes
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from transformers import AutoTokenizer, BertForMaskedLM, BertModel, get_linear_schedule_with_warmup, set_seed

from edgedistill.data.types import CodedResponse, MixtureRow, Response, ValidationRows
from edgedistill.project.student import StudentSection
from edgedistill.student import backbone_folder, train_student, trial
from edgedistill.student.model import choose_max_tokens
from edgedistill.student.prior_correction import correct_prior
from edgedistill_export.checkpoint import Checkpoint

CONSOLE = Console(width=150)
OPTIONS = (
    "default",
    "layerwise",
    "averaged",
    "soup",
    "r-drop",
    "smoothed",
    "robust",
    "masked",
    "pairs",
)
TEACHERS = {"beetle", "babe"}
VALIDATION, DEVELOPMENT = 150, 600
Rows = tuple[list[MixtureRow], ValidationRows, list[dict[str, str]], list[dict[str, str]]]


def rows_of(data: Path, name: str, count: int) -> Rows:
    """Training, validation and development rows, and all texts of train.csv but the development rows'."""
    task, rows = TASKS[name], read(data / name / "train.csv")
    random.Random(0).shuffle(rows)  # noqa: S311  a draw of rows, not a secret
    shares = votes(data, name) if name in TEACHERS else {row["id"]: {row["label"]: 1.0} for row in rows}
    validating, rest = rows[:VALIDATION], rows[VALIDATION:]
    training = [row for row in rest if row["id"] in shares][:count]
    used = {row["id"] for row in training}
    development = [row for row in rest if row["id"] not in used][:DEVELOPMENT]
    held = {row["id"] for row in development}
    inputs = {row["id"]: {one: row[one] for one in task.inputs} for row in rows}
    mixture = [
        MixtureRow(
            row["id"],
            inputs[row["id"]],
            max(shares[row["id"]], key=shares[row["id"]].__getitem__),
            "teacher" if name in TEACHERS else "human",
            shares[row["id"]],
        )
        for row in training
    ]
    validation = ValidationRows(
        tuple(CodedResponse(Response(row["id"], inputs[row["id"]], "train.csv", 0), row["label"]) for row in validating)
    )
    texts = [inputs[row["id"]] for row in rows if row["id"] not in held]
    return mixture, validation, development, texts


class OptionTrainer(trial.StudentTrainer):
    """The product's trainer with one option."""

    option = "default"
    _sums: dict[str, torch.Tensor]
    _steps = 0

    def create_optimizer(self) -> Any:
        """AdamW as in the product; `layerwise` has a group of weights per layer."""
        if self.option != "layerwise" or self.optimizer is not None:
            return super().create_optimizer()
        decaying = set(self.get_decay_parameter_names(self.model))
        count = self.model.config.num_hidden_layers
        groups: dict[tuple[int, bool], list[Any]] = {}
        for name, weight in self.model.named_parameters():
            if weight.requires_grad:
                head, found, tail = name.partition("encoder.layer.")
                below = count - 1 - int(tail.split(".")[0]) if found else (count if "embeddings" in head + name else -1)
                groups.setdefault((below, name in decaying), []).append(weight)
        self.optimizer = torch.optim.AdamW(
            [
                {
                    "params": weights,
                    "lr": self.args.learning_rate * 0.85 ** (below + 1),
                    "weight_decay": trial.WEIGHT_DECAY if decays else 0.0,
                }
                for (below, decays), weights in groups.items()
            ],
            fused=True,
        )
        return self.optimizer

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **given: Any) -> Any:
        """The loss of the option in training; cross-entropy in evaluation."""
        if not model.training or self.option not in ("r-drop", "smoothed", "robust"):
            return super().compute_loss(model, inputs, return_outputs, **given)
        targets, _ = inputs.pop("labels"), inputs.pop("shares", None)
        passes = []
        for _ in range(2 if self.option == "r-drop" else 1):
            with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16_steps):
                passes.append(model(**inputs).logits.float())
        if self.option == "smoothed":
            return cross_entropy(passes[0], targets, label_smoothing=0.1)
        if self.option == "robust":
            right = passes[0].softmax(dim=1).gather(1, targets[:, None])[:, 0]
            return ((1 - right**0.7) / 0.7).mean()
        one, two = (log_softmax(logits, dim=1) for logits in passes)
        apart = kl_div(one, two, log_target=True, reduction="batchmean")
        apart = (apart + kl_div(two, one, log_target=True, reduction="batchmean")) / 2
        return sum(cross_entropy(logits, targets) for logits in passes) / 2 + apart

    def training_step(self, model: Any, *given: Any, **named: Any) -> Any:
        """Count the weights before the step in their mean."""
        if self.option == "averaged":
            weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
            if not self._steps:
                self._sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
            with torch.no_grad():
                for name, weight in weights.items():
                    self._sums[name] += weight
            self._steps += 1
        return super().training_step(model, *given, **named)

    def evaluate(self, *given: Any, **named: Any) -> Any:
        """Evaluate, and let the product keep, the mean of the epoch's weights."""
        if self.option != "averaged":
            return super().evaluate(*given, **named)
        weights = {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}
        last = {name: weight.detach().clone() for name, weight in weights.items()}
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(self._sums[name] / self._steps)
        found = super().evaluate(*given, **named)
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(last[name])
        self._steps = 0
        return found


def batches(count: int, size: int, epochs: int, seed: int) -> Iterator[list[int]]:
    """Places of rows, shuffled in each epoch."""
    draw = random.Random(seed)  # noqa: S311
    for _ in range(epochs):
        order = list(range(count))
        draw.shuffle(order)
        yield from (order[start : start + size] for start in range(0, count - size + 1, size))


def optimize(model: Any, rate: float, losses: Iterator[torch.Tensor], steps: int) -> None:
    """Take so many steps with AdamW on the losses."""
    model.train()
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], rate, fused=True)
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    for loss in losses:
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def train_on_texts(backbone: Path, texts: Sequence[Mapping[str, str]], seed: int, folder: Path) -> None:
    """Write the backbone after masked-language training on the texts."""
    tokenizer, model = AutoTokenizer.from_pretrained(backbone), BertForMaskedLM.from_pretrained(backbone)
    model.bert.embeddings.word_embeddings.weight.requires_grad_(False)
    sentences = sorted({part for text in texts for cell in text.values() for part in cell.splitlines() if part})
    draw = torch.Generator().manual_seed(seed)
    sizes = 16, 3

    def losses() -> Iterator[torch.Tensor]:
        for places in batches(len(sentences), *sizes, seed):
            batch = tokenizer(
                [sentences[place] for place in places],
                padding=True,
                truncation=True,
                max_length=128,
                return_tensors="pt",
            )
            ids = batch["input_ids"]
            special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
            chosen = (torch.rand(ids.shape, generator=draw) < 0.15) & ~special
            if not chosen.any():
                continue
            kind = torch.rand(ids.shape, generator=draw)
            targets = ids.masked_fill(~chosen, -100)
            masked = ids.masked_fill(chosen & (kind < 0.8), tokenizer.mask_token_id)
            other = torch.randint(len(tokenizer), ids.shape, generator=draw)
            masked = torch.where(chosen & (kind >= 0.9), other, masked)
            with torch.autocast("cpu", torch.bfloat16, enabled=trial.has_bf16()):
                hidden = model.bert(masked, attention_mask=batch["attention_mask"]).last_hidden_state[chosen]
                logits = model.cls(hidden)
            yield cross_entropy(logits.float(), targets[chosen])

    optimize(model, 5e-5, losses(), sizes[1] * (len(sentences) // sizes[0]))
    model.bert.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def train_on_pairs(backbone: Path, rows: Sequence[MixtureRow], seed: int, folder: Path) -> None:
    """Write the backbone after contrastive training of correct responses with their reference answers."""
    tokenizer, model = AutoTokenizer.from_pretrained(backbone), BertModel.from_pretrained(backbone)
    model.embeddings.word_embeddings.weight.requires_grad_(False)
    pairs = [
        (row.inputs["response"], reference, row.inputs["question"])
        for row in rows
        if row.label.lower() == "correct"
        for reference in row.inputs["reference_answer"].splitlines()
    ]
    sizes = 16, 2

    def vectors(texts: Sequence[str]) -> torch.Tensor:
        batch = tokenizer(list(texts), padding=True, truncation=True, max_length=64, return_tensors="pt")
        with torch.autocast("cpu", torch.bfloat16, enabled=trial.has_bf16()):
            hidden = model(**batch).last_hidden_state.float()
        mask = batch["attention_mask"][:, :, None]
        return torch.nn.functional.normalize((hidden * mask).sum(dim=1) / mask.sum(dim=1), dim=1)

    def losses() -> Iterator[torch.Tensor]:
        for places in batches(len(pairs), *sizes, seed):
            responses, references, questions = zip(*(pairs[place] for place in places), strict=True)
            alike = 20 * vectors(responses) @ vectors(references).T
            same = torch.tensor([[one == two for two in questions] for one in questions])
            alike = alike.masked_fill(same & ~torch.eye(len(places), dtype=torch.bool), float("-inf"))
            yield cross_entropy(alike, torch.arange(len(places)))

    optimize(model, 2e-5, losses(), sizes[1] * (len(pairs) // sizes[0]))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def averaged(checkpoints: Sequence[Path], folder: Path) -> None:
    """Write a checkpoint with the mean of the weights."""
    shutil.copytree(checkpoints[0], folder)
    weights = [load_file(each / "model.safetensors") for each in checkpoints]
    mean = {name: torch.stack([each[name] for each in weights]).mean(dim=0) for name in weights[0]}
    save_file(mean, folder / "model.safetensors", metadata={"format": "pt"})


def make(option: str, name: str, count: int, seed: int, data: Path, out: Path) -> dict[str, Any]:
    """Train a student, keep the checkpoint of `default`, and return the labels of the development rows."""
    training, validation, development, texts = rows_of(data, name, count)
    task, backbone = TASKS[name], backbone_folder("minilm", Path())
    max_tokens = choose_max_tokens(backbone, task, (row.inputs for row in training))
    section = StudentSection(max_tokens=max_tokens, seeds=(seed,))
    start = time.process_time()
    with TemporaryDirectory() as scratch:
        folder, before = Path(scratch) / "student", Path(scratch) / "backbone"
        set_seed(seed)
        if option == "masked":
            train_on_texts(backbone, texts, seed, before)
        elif option == "pairs":
            train_on_pairs(backbone, training, seed, before)
        if option == "soup":
            averaged(sorted(out.glob(f"{name}-{count}-default-?")), folder)
        else:
            trainer = type("Trainer", (OptionTrainer,), {"option": option})
            with mock.patch.object(trial, "StudentTrainer", trainer):
                start_from = before if before.exists() else backbone
                train_student(training, validation, task, section, start_from, folder)
        seconds = time.process_time() - start
        if option == "default":
            shutil.copytree(folder, out / f"{name}-{count}-default-{seed}", dirs_exist_ok=True)
        correct_prior(folder, training, validation, task, section)
        inputs = [{one: row[one] for one in task.inputs} for row in development]
        labels = labels_of(Checkpoint.load(folder, task, max_tokens), inputs)
    return {
        "option": option,
        "set": name,
        "rows": len(training),
        "seed": seed,
        "cpu_seconds": round(seconds, 1),
        "tests": {"development": {"codes": [row["label"] for row in development], "labels": labels}},
    }


def summary(out: Path) -> dict[str, Any]:
    """Figures of each set and option, and the difference from `default` on the same rows and seeds."""
    results: dict[tuple[str, str], dict[int, Any]] = {}
    for file in sorted(out.glob("*.json")):
        found = json.loads(file.read_text("utf-8"))
        results.setdefault((found["set"], found["option"]), {})[found["seed"]] = found
    figures: dict[str, Any] = {}
    for (name, option), by_seed in results.items():
        default = results[name, "default"]
        seeds = sorted(default) if option == "soup" else sorted(set(by_seed) & set(default))
        ones = [
            statistics_of([side[seed] for seed in used], "development", TASKS[name])
            for side, used in ((by_seed, sorted(by_seed) if option == "soup" else seeds), (default, seeds))
        ]
        figures[f"{name} {option}"] = {
            "rows": next(iter(by_seed.values()))["rows"],
            "seeds": len(by_seed),
            "cpu_seconds": round(sum(each["cpu_seconds"] for each in by_seed.values()) / len(by_seed), 1),
            **{figure: interval(values) for figure, values in ones[0].items()},
        }
        if option != "default":
            figures[f"{name} {option}"]["minus_default"] = {
                figure: interval(values - ones[1][figure]) for figure, values in ones[0].items()
            }
    return figures


def main() -> None:
    """Make runs, or summarize them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--options", nargs="+", choices=OPTIONS, default=[])
    parser.add_argument("--sets", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--summary", type=Path)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for option, seed, name in product(sorted(given.options, key=OPTIONS.index), given.seeds, given.sets):
        file = given.out / f"{name}-{given.rows}-{option}-{seed}.json"
        if option == "soup" and seed != given.seeds[0]:  # one mean of all seeds
            continue
        if file.is_file() or (option == "pairs" and "reference_answer" not in TASKS[name].inputs):
            continue
        CONSOLE.print(name, option, seed)
        file.with_suffix(".part").write_text(json.dumps(make(option, name, given.rows, seed, given.data, given.out)))
        file.with_suffix(".part").rename(file)
    figures = summary(given.out)
    for name, entry in figures.items():
        CONSOLE.print(name, entry)
    if given.summary:
        given.summary.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
