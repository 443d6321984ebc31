"""Speed and agreement of a bundle on a GPU: fp16 with bound memory, PyTorch, and int8 on the cores of this machine.

    python benchmarks/gpu.py BUNDLE --out results.json              # a machine with CUDA; less than five minutes
    python benchmarks/gpu.py BUNDLE --device cpu --out dry.json     # the same code on a CPU; its figures say nothing

BUNDLE must have its graphs fp32 and int8; the fp16 graph is made from fp32. Texts are random words of the golden rows,
tokenized before. Batches are texts of similar length up to a number of tokens, padding included. The systems take turns
in rounds; texts per second are medians over the rounds, and ratios are computed within rounds. PyTorch runs the
architecture of config.json with random weights, on which its speed does not depend; its scores are therefore not
compared. Agreement: labels and probabilities of 1,000 texts (on a CPU 200), against fp32 on the CPU.

Requires, in addition to edgedistill-serve[gpu]: onnx, torch with CUDA, transformers.
"""

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edgedistill_serve import Bundle
from edgedistill_serve.scoring.encoding import Encoded, Encoder
from edgedistill_serve.scoring.session import PROVIDERS, Session, build_feeds, make_binding_runner

Run = Callable[[Sequence[Encoded]], Any]
"""Runs one batch, and returns its logits."""
TEXTS, ROUNDS = 4000, 3
BUDGETS = {"cuda": (512, 2048, 8192, 32768), "cpu": (512, 2048)}
"""Tokens of a batch, padding included."""
SECONDS = {"cuda": 2.0, "cpu": 0.5}
"""Time of one system with one budget in one round."""
OURS, TORCH, INT8 = "onnxruntime fp16, bound memory", "PyTorch", "int8, all cores of the CPU"


def missing(device: str) -> str | None:
    """Return in one line what this machine lacks for a device; None if there is nothing."""
    import torch

    if device == "cpu":
        return None
    lacks = []
    if PROVIDERS["cuda"] not in onnxruntime.get_available_providers():
        lacks.append("onnxruntime is the build for CPUs (install onnxruntime-gpu instead)")
    if torch.version.cuda is None:
        lacks.append("PyTorch is the build for CPUs (install torch from its index for CUDA)")
    elif not torch.cuda.is_available():
        lacks.append("PyTorch finds no CUDA device")
    return f"CUDA is missing: {'; '.join(lacks)}. --device cpu runs the same code without it." if lacks else None


def make_texts(bundle: Bundle) -> list[Encoded]:
    """Return texts of random words, tokenized."""
    draw = random.Random(0)  # noqa: S311  # no secret
    inputs = bundle.task.inputs
    words = sorted({word for row in bundle.golden.rows for text in row.inputs.values() for word in text.split()})
    rows = [
        {name: " ".join(draw.choices(words, k=draw.randint(3, 60 // len(inputs)))) for name in inputs}
        for _ in range(TEXTS)
    ]
    encoder = Encoder(bundle.tokenizer_file, bundle.manifest.max_tokens, bundle.manifest.truncation)
    return encoder.encode(rows)


def batches(texts: Sequence[Encoded], budget: int) -> list[list[Encoded]]:
    """Divide texts, shortest first, into batches within a token budget, padding included; then shuffle the batches."""
    found: list[list[Encoded]] = []
    for text in sorted(texts, key=lambda each: len(each.ids)):
        if not found or (len(found[-1]) + 1) * len(text.ids) > budget:
            found.append([])
        found[-1].append(text)
    random.Random(0).shuffle(found)  # noqa: S311  # no secret
    return found


def fp16(bundle: Bundle, device: str) -> Run:
    """Return the fp16 graph in a session of onnxruntime with inputs and outputs bound to the device."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    graph = convert_float_to_float16(onnx.load(bundle.folder / "onnx" / "model.onnx"), keep_io_types=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=[PROVIDERS[device]])
    if PROVIDERS[device] not in session.get_providers():
        raise SystemExit("CUDA is missing: onnxruntime cannot use the device (its log above names the library).")
    run = make_binding_runner(onnxruntime, session, device, ["logits"])
    names = [node.name for node in session.get_inputs()]

    def logits(rows: Sequence[Encoded]) -> Any:
        feeds = build_feeds(rows)
        return run({name: feeds[name] for name in names})[0]

    return logits


def pytorch(bundle: Bundle, device: str) -> Run:
    """Return the architecture in PyTorch, in float16 on a GPU."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(bundle.folder)
    model = AutoModelForSequenceClassification.from_config(config).eval().to(device)
    if device == "cuda":
        model = model.half()
    names = {"input_ids", "attention_mask", *(["token_type_ids"] if getattr(config, "type_vocab_size", 0) > 1 else [])}

    def logits(rows: Sequence[Encoded]) -> Any:
        feeds = {name: torch.from_numpy(value).to(device) for name, value in build_feeds(rows).items() if name in names}
        with torch.inference_mode():
            return model(**feeds).logits.float().cpu().numpy()

    return logits


def speed(run: Run, work: Sequence[Sequence[Encoded]], *, callers: int, seconds: float) -> float:
    """Return texts per second of batches that several threads run for some time."""
    until = time.perf_counter() + seconds
    started, done = time.perf_counter(), 0
    with ThreadPoolExecutor(callers) as pool:
        position = 0
        while time.perf_counter() < until:
            some = [work[(position + step) % len(work)] for step in range(callers)]
            position += callers
            list(pool.map(run, some))
            done += sum(map(len, some))
    return done / (time.perf_counter() - started)


def probabilities(run: Run, work: Sequence[Sequence[Encoded]]) -> np.ndarray:
    """Return the probability of each label for each text, in the order of the batches."""
    logits = np.concatenate([np.asarray(run(batch), dtype=np.float64) for batch in work])
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def agreement(found: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """Return how many labels differ, and by how much probabilities do."""
    flips = int((found.argmax(1) != expected.argmax(1)).sum())
    difference = np.abs(found - expected)
    return {
        "texts": len(found),
        "other_labels": flips,
        "largest_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
        "not_finite": int((~np.isfinite(found)).any(axis=1).sum()),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if (lack := missing(given.device)) is not None:
        sys.exit(lack)
    bundle = Bundle.load(given.bundle)
    paths = {precision: bundle.model_file(precision) for precision in ("fp32", "int8")}
    if paths["fp32"] is None or paths["int8"] is None:
        sys.exit(f"{given.bundle} must have the graphs fp32 and int8; this one has {bundle.manifest.precision} only.")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    texts, budgets = make_texts(bundle), BUDGETS[given.device]
    int8 = Session(paths["int8"], overflow_free=bundle.manifest.int8_overflow_free)
    systems: dict[str, tuple[Run, int]] = {
        OURS: (fp16(bundle, given.device), 1),
        TORCH: (pytorch(bundle, given.device), 1),
        INT8: (int8.batch_logits, cores),
    }
    rates: dict[str, dict[int, list[float]]] = {name: {budget: [] for budget in budgets} for name in systems}
    for round_number in range(ROUNDS + 1):  # the first one warms up
        for budget in budgets:
            work = batches(texts, budget)
            for name, (run, callers) in systems.items():
                rate = speed(run, work, callers=callers, seconds=SECONDS[given.device])
                if round_number:
                    rates[name][budget].append(rate)
    some = batches(texts[: 1000 if given.device == "cuda" else 200], 2048)
    expected = probabilities(Session(paths["fp32"]).batch_logits, some)
    result = {
        "device": given.device,
        "bundle": {"version": bundle.manifest.version, "max_tokens": bundle.manifest.max_tokens},
        "cores": cores,
        "mean_tokens": statistics.mean(len(text.ids) for text in texts),
        "texts_per_second": {
            name: {str(budget): statistics.median(values) for budget, values in by_budget.items()}
            for name, by_budget in rates.items()
        },
        "ratio_to_int8": {
            name: {
                str(budget): statistics.median(a / b for a, b in zip(values, rates[INT8][budget], strict=True))
                for budget, values in by_budget.items()
            }
            for name, by_budget in rates.items()
            if name != INT8
        },
        "agreement_with_fp32_on_the_cpu": {
            "fp16": agreement(probabilities(systems[OURS][0], some), expected),
            "int8": agreement(probabilities(int8.batch_logits, some), expected),
        },
    }
    print(json.dumps(result, indent=1))
    if given.out is not None:
        given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
