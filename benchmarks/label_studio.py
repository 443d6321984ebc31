"""Check the exchange with Label Studio against label-studio-sdk, which is not a dependency of the project.

    python3 -m venv sdk && sdk/bin/pip install label-studio-sdk
    python benchmarks/label_studio.py --sdk sdk/bin/python --out docs/results/label-studio.json

For every kind of task and every control, with labels of odd characters, the SDK

- parses our labelling interface with `LabelInterface`, validates it, and finds the labels of the codebook in it;
- validates our tasks, and the annotations of random exports, against it;
- generates annotations of its own from it, whose codes we must read as the SDK wrote them;
- converts the exports to JSON-MIN with its `Converter`, whose records must hold the codes that our import finds in the
  whole export, and that it finds in the JSON-MIN file.

The exports hold several annotators, some with e-mail addresses and some with numbers, repeated and skipped
annotations, drafts, predictions, ground truth and tasks that nobody annotated.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

NAMES = ["process", 'a "quoted" <b> & $response', "x=$5", "naïve 日本", "1,2 | 3"]
CASES = [
    ("nominal", "choices"),
    ("nominal", "taxonomy"),
    ("ordinal", "choices"),
    ("ordinal", "rating"),
    ("ordinal", "taxonomy"),
    ("multilabel", "choices"),
    ("multilabel", "taxonomy"),
]
ANNOTATORS: list[object] = [3, 4, {"id": 5, "email": "eve@school.edu", "first_name": "Eve", "last_name": ""}]


def with_sdk(folder: Path) -> None:
    """Run in the interpreter of the SDK: write what it makes of the files in a folder."""
    from importlib.metadata import version

    from label_studio_sdk.converter import Converter
    from label_studio_sdk.label_interface import LabelInterface

    configuration = (folder / "labelling-interface.xml").read_text("utf-8")
    interface = LabelInterface(configuration)
    interface.validate()
    control = interface.get_control("code")
    tasks = json.loads((folder / "tasks.json").read_text("utf-8"))
    export = json.loads((folder / "export.json").read_text("utf-8"))
    annotations = [each for task in export for each in task["annotations"] if not each["was_cancelled"]]
    generated = [interface.generate_sample_annotation() for _ in range(20)]
    converter = Converter(configuration, str(folder))
    converter.convert_to_json_min(str(folder / "export.json"), str(folder / "converted"), is_dir=False)
    found = {
        "version": version("label-studio-sdk"),
        "tag": control.tag,
        "labels": list(control.labels or ()),
        "valid_tasks": sum(interface.validate_task(task) for task in tasks),
        "valid_annotations": sum(bool(interface.validate_annotation(each)) for each in annotations),
        "annotations": len(annotations),
        "generated": generated,
    }
    (folder / "found.json").write_text(json.dumps(found, ensure_ascii=False), "utf-8")


def random_export(draw: random.Random, kind: str, control: str, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return an export of the tasks with random annotations."""
    numbers = iter(range(1, 1_000_000))

    def value() -> dict[str, Any]:
        if control == "rating":
            return {"rating": draw.randint(1, len(NAMES))}
        names = draw.sample(NAMES, draw.randint(1, 3)) if kind == "multilabel" else [draw.choice(NAMES)]
        if kind == "multilabel" and draw.random() < 0.2:
            names = ["none"]
        return {control: [[name] for name in names] if control == "taxonomy" else names}

    def result() -> list[dict[str, Any]]:
        return [
            {
                "id": f"r{next(numbers)}",
                "from_name": "code",
                "to_name": "response",
                "type": control,
                "origin": "manual",
                "value": value(),
            }
        ]

    export = []
    for task in tasks:
        annotations = [
            {
                "id": next(numbers),
                "completed_by": draw.choice(ANNOTATORS),
                "result": result() if draw.random() < 0.95 else [],
                "was_cancelled": draw.random() < 0.1,
                "ground_truth": draw.random() < 0.1,
                "created_at": f"2026-11-01T{draw.randint(0, 23):02}:00:00.000000Z",
                "updated_at": f"2026-11-02T{draw.randint(0, 23):02}:{draw.randint(0, 59):02}:00.{next(numbers):06}Z",
                "lead_time": 1.5,
            }
            for _ in range(draw.randint(0, 5))
        ]
        predictions = [{"model_version": "m", "score": 0.5, "result": result()}] if draw.random() < 0.3 else []
        drafts = [{"id": next(numbers), "result": result()}] if draw.random() < 0.2 else []
        more = {"annotations": annotations, "drafts": drafts, "predictions": predictions}
        export.append({"id": next(numbers), **task, **more})
    return export


def codes_of_records(records: list[dict[str, Any]], kind: str) -> dict[str, dict[str, str]]:
    """Return the codes in records of JSON-MIN, read independently of the package: the last update of each wins."""
    codes: dict[str, dict[str, str]] = {}
    for record in sorted(records, key=lambda each: each["updated_at"] or ""):
        value = record.get("code")
        if value is None or record["annotator"] is None:
            continue
        names: list[str] = []
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str):
                names.append(each)
            elif "rating" in each:
                names.append(NAMES[each["rating"] - 1])
            elif "taxonomy" in each:
                names += [path[-1] for path in each["taxonomy"]]
            else:
                names += each["choices"]
        code = ";".join(name for name in NAMES if name in names) or "none" if kind == "multilabel" else names[0]
        codes.setdefault(str(record["annotator"]), {})[record["response_id"]] = code
    return codes


def check(folder: Path, sdk: Path, kind: str, control: str, rows: int, draw: random.Random) -> dict[str, Any]:
    """Check one kind of task with one control, and return what was counted."""
    from edgedistill.label_studio import export_tasks
    from edgedistill.label_studio.annotations import read_annotations
    from edgedistill.project import read_project

    names = [{"name": name, "definition": f"Defines {name}"} for name in NAMES]
    task = {"kind": kind, "labels": names, "instructions": "Costs $5.\nMore.", "inputs": ["question", "response"]}
    (folder / "project.yaml").write_text(json.dumps({"name": "p", "task": task, "data": {"human": "human.jsonl"}}))
    lines = [
        {"id": f"r{n}", "question": f"Why {n}?", "response": f"You tried way {n} & <more>\n$5", "label": ""}
        for n in range(rows)
    ]
    (folder / "human.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    project = read_project(folder / "project.yaml")
    export_tasks(project, folder, control=control)  # type: ignore[arg-type]
    tasks = json.loads((folder / "tasks.json").read_text("utf-8"))
    (folder / "export.json").write_text(json.dumps(random_export(draw, kind, control, tasks), ensure_ascii=False))
    subprocess.run([sdk, __file__, "--with-sdk", folder], check=True)
    found = json.loads((folder / "found.json").read_text("utf-8"))
    scored = project.task.task
    whole = read_annotations(folder / "export.json", scored)
    minimal = read_annotations(folder / "converted" / "result.json", scored)
    expected = codes_of_records(json.loads((folder / "converted" / "result.json").read_text("utf-8")), kind)
    expected_labels = [] if control == "rating" else [*NAMES, *(["none"] if kind == "multilabel" else [])]
    samples = [
        {**task, "annotations": [{**each, "completed_by": 1}]}
        for task, each in zip(tasks, filter(None, found["generated"]), strict=False)
    ]
    (folder / "generated.json").write_text(json.dumps(samples))
    generated = read_annotations(folder / "generated.json", scored)
    refused = len(generated.faults) + sum(generated.unknown_labels.values())
    return {
        "kind": kind,
        "control": control,
        "tasks": rows,
        "codes": sum(map(len, whole.codes.values())),
        "configuration_has_the_labels": sorted(found["labels"]) == sorted(expected_labels),
        "valid_tasks": found["valid_tasks"],
        "annotations": found["annotations"],
        "valid_annotations": found["valid_annotations"],
        "codes_that_differ_from_the_converters": differing(whole.codes, expected),
        "codes_that_differ_between_the_formats": differing(whole.codes, minimal.codes),
        "generated_annotations": len(samples),
        "generated_annotations_read": sum(map(len, generated.codes.values())),
        "generated_annotations_refused": refused,
        "version": found["version"],
    }


def differing(first: Any, second: Any) -> int:
    """Return the number of (annotator, row) pairs whose codes differ or are in one of both only."""
    one = {(who, row, code) for who, rows in first.items() for row, code in rows.items()}
    other = {(who, row, code) for who, rows in second.items() for row, code in rows.items()}
    return len({each[:2] for each in one ^ other})


def main() -> None:
    """Check every case and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sdk", type=Path, help="an interpreter that has label-studio-sdk")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--out", type=Path, help="the result file")
    parser.add_argument("--with-sdk", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.with_sdk:
        with_sdk(options.with_sdk)
        return
    draw = random.Random(0)  # noqa: S311  # no secret
    cases = []
    for kind, control in CASES:
        with tempfile.TemporaryDirectory() as folder:
            cases.append(check(Path(folder), options.sdk, kind, control, options.rows, draw))
        print(cases[-1])
    versions = {case.pop("version") for case in cases}
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        result = {"label_studio_sdk": versions.pop(), "seed": 0, "cases": cases}
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    different = ("codes_that_differ_from_the_converters", "codes_that_differ_between_the_formats")
    wrong = [case for case in cases if any(case[name] for name in different)]
    sys.exit(f"{len(wrong)} cases differ" if wrong else 0)


if __name__ == "__main__":
    main()
