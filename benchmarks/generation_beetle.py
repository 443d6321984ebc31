"""Generation on real learners' questions: Beetle, with a recorded teacher.

    python benchmarks/generation_beetle.py SHARED --out FOLDER

SHARED contains `data/beetle/` (train.csv, test_ua.csv, votes.jsonl, synthetic.csv) and `teacher/recorded_teacher.py`,
an OpenAI-compatible server that replays recorded answers: 10 samples per label and question, each coded once.

The human rows are those of `benchmarks/beetle.py`: 250 train rows, which the prompts may show, 160 validation rows and
the 439 rows of test_ua. It prints the samples kept and removed by each step, a
confusion matrix of intended labels and the teacher's coding, and the diversity of the samples.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from beetle import PROJECT, write_data


def write_project(folder: Path, address: str, per_label: int) -> Path:
    """Write the project file of `beetle.py`, with a section `generate`."""
    text = PROJECT.format(name="generation", address=address, human="all", teacher="all", seed=0)
    settings = {"per_label": per_label, "examples_per_prompt": 2, "temperature": 1.0}
    project = folder / "generation.yaml"
    project.write_text(f"{text}generate: {json.dumps(settings)}\n", "utf-8")
    return project


def print_results(found: dict[str, Any]) -> None:
    """Print the counts, the table and the diversity."""
    print(f"{found['calls']} requests, {found['asked_for']} samples requested, {found['written']} written")
    for reason, rows in found["removed"].items():
        print(f"  {rows:5} removed: {reason}")
    print(f"  {found['kept']:5} kept: {found['kept_by_label']}")
    near = found["near_train"]
    other_code = near["with_another_human_code"]
    print(f"  {near['rows']:5} of them are near-duplicates of a train row, {other_code} with another code")
    regraded = found["regraded"]
    figures = ("{} {value:.3f} [{low:.3f}, {high:.3f}]".format(n, **regraded[n]) for n in ("accuracy", "kappa"))
    print(f"intended label and second coding, {regraded['rows']} samples:", *figures)
    names = list(regraded["per_label"])
    print(f"  {'intended':16}", *(f"{name:>14}" for name in names), "    precision  recall")
    for name, counts in zip(names, regraded["confusion"], strict=True):
        label = regraded["per_label"][name]
        cells = " ".join(f"{n:14}" for n in counts)
        print(f"  {name:16} {cells}     {label['precision']:.3f}      {label['recall']:.3f}")
    print("texts    label          temp. rows dist-1 dist-2 self-BLEU words")
    for row in found["diversity"]:
        temperature = "" if row["temperature"] is None else row["temperature"]
        print(
            f"{row['of']:8} {row['label']:14} {temperature!s:5} {row['rows']:4} {row['distinct_1']:6.3f} "
            f"{row['distinct_2']:6.3f} {row['self_bleu']:9.3f} {row['words']}"
        )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--per-label", type=int, default=460)
    parser.add_argument("--port", type=int, default=8818)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    data = arguments.shared / "data" / "beetle"
    write_data(data, arguments.out, apart=False)
    script = arguments.shared / "teacher" / "recorded_teacher.py"
    recorded = ["--votes", data / "votes.jsonl", "--synthetic", data / "synthetic.csv", "--port", str(arguments.port)]
    with subprocess.Popen([sys.executable, script, *recorded], stdout=subprocess.PIPE, text=True) as teacher:
        try:
            print(teacher.stdout.readline().strip())  # type: ignore[union-attr]  # stdout is a pipe
            project = write_project(arguments.out, f"http://127.0.0.1:{arguments.port}/v1", arguments.per_label)
            command = [Path(sys.executable).parent / "edgedistill", "run", project, "--until", "generate"]
            with (arguments.out / "generation.log").open("w") as log:
                subprocess.run([*command, "--accept-teacher"], check=True, stdout=log, stderr=subprocess.STDOUT)
            print_results(json.loads((arguments.out / "runs" / "generation" / "generation.json").read_text("utf-8")))
        finally:
            teacher.terminate()


if __name__ == "__main__":
    main()
