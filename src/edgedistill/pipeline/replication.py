"""A replication package: what a reviewer needs to compute every table of a run again, and no response of a learner.

Row ids become numbers. Nothing derived from a single response leaves with it, not even a hash: responses are short, and
whoever has the prompt could try likely texts until the hash fits.
"""

import hashlib
import io
import json
import re
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import distributions, version
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeAlias

from ruamel.yaml import YAML

from edgedistill.data import Response
from edgedistill.data.twins import fold_text, same_row
from edgedistill.data.types import CodedResponse, countable_labels, labels_in
from edgedistill.decisions.learning_curve import CURVE_CODES_FILE, LEARNING_CURVE_FILE
from edgedistill.errors import RunError
from edgedistill.estimates.results import ESTIMATES_FILE
from edgedistill.estimates.rows import ROWS_FILE
from edgedistill.evaluation.types import PYTORCH, Evaluation
from edgedistill.pipeline.answers import RunAnswer, run_answers
from edgedistill.pipeline.evaluate import Measured, measure, project_population
from edgedistill.pipeline.methods import coding_prompt, write_methods
from edgedistill.pipeline.mix import read_mixture
from edgedistill.pipeline.preregistration import plan_file
from edgedistill.pipeline.replicated_claims import (
    curve_columns,
    numbered,
    promise_columns,
    promise_settings,
    read_kept,
    readable_rows,
    student_novelty,
    unlike_column,
)
from edgedistill.pipeline.report import read_inputs
from edgedistill.pipeline.run import Run
from edgedistill.pipeline.stages import is_done, require_done, seen_by
from edgedistill.project.teacher import ExistingLabelsSection
from edgedistill.report import reproduce
from edgedistill.report.inputs import ReportInputs
from edgedistill.report.paper_markup import plain
from edgedistill.report.verdict import listed
from edgedistill_export.verify.parity import graph_logits
from edgedistill_serve import Score, Scorer
from edgedistill_serve.bundle.manifest import Precision
from edgedistill_serve.grading.delimited import write_records
from edgedistill_serve.scoring.graph_choice import load_encoder
from edgedistill_serve.task.task import task_inputs

FORMAT: Final = 1
_QUOTED_CHARACTERS, _QUOTED_WORDS = 20, 4
"""A response of at least this size is looked for in texts of the project, such as the codebook."""
_NOTES = (
    "set_aside",
    "rows_set_aside",
    "unreadable_validation_rows",
    "notes",
    "detail",
    "teacher_set_aside",
    "selected_by",
)
"""Keys of the run's files that name rows, or may."""
_GENERATION = ("requests", "asked_for", "written", "kept", "removed", "consistent", "near_train", "regraded")
_FORMS: Final[Mapping[Precision, str]] = {"fp32": "ONNX fp32", "int8": "int8"}
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)

Lines: TypeAlias = Sequence[Sequence[object]]


def write_replication(
    run: Run, target: Path, *, texts: bool = False, logits: bool = True, overwrite: bool = False
) -> Path:
    """Write a replication package.

    The student scores validation and test rows again, and answers of teachers come from the cache. Before it is written
    the package is unpacked, and its script has to reproduce every table.

    Args:
        run: A finished run.
        target: The ZIP file.
        texts: Whether to pack the responses, the prompts and answers of teachers, and the ids of rows as well.
        logits: Whether to pack the logits of the student. Whoever has the student can check with them whether a guessed
            text is the response; without them, the table `calibration` is not computed again.
        overwrite: Whether to replace the file, if there is one.

    Returns:
        The file.

    Raises:
        RunError: The file exists, a stage is not done with the current settings and data, a text of the project quotes
            a response, or a table cannot be reproduced.
        AnswersMissing: The cache lacks answers of a teacher.
        BundleError: The bundle was changed.
    """
    if target.exists() and not overwrite:
        raise RunError("exists already", where=str(target), hint="Name another file, or use --overwrite.")
    require_done(run, before="report")
    paper = write_methods(run)
    packed = _Package(replace(run, offline=True, dispatch=None), texts=texts, logits=logits)
    members = packed.members(paper)
    if not texts:
        require_no_quotes(run, members)
    manifest = {
        "format": FORMAT,
        "project": run.project.name,
        "edgedistill": version("edgedistill"),
        "texts": texts,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(members.items())},
    }
    members["MANIFEST.json"] = _json(manifest)
    _require_reproduced(members)
    try:
        _write_zip(target, members)
    except OSError as error:
        raise RunError(
            f"cannot be written ({error.strerror})", where=str(target), hint="Check folder, permission and free space."
        ) from None
    return target


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The number of each row by its id, such as ``test-7``."""

    of: Mapping[str, str]

    @classmethod
    def of_run(cls, run: Run) -> "_Numbers":
        splits = run.records.splits
        parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
        return cls({row.response.id: f"{name}-{n}" for name, rows in parts.items() for n, row in enumerate(rows, 1)})


class _Package:
    """The files of a package, from a run whose stages are done."""

    def __init__(self, run: Run, *, texts: bool, logits: bool) -> None:
        self.run, self.texts, self.logits = run, texts, logits
        self.numbers = _Numbers.of_run(run)
        self.report: ReportInputs = read_inputs(seen_by(run, "report"))
        self.evaluation: Evaluation = self.report.evaluation
        self.measured: Measured = measure(seen_by(run, "evaluate"))
        self.answers: list[RunAnswer] = list(run_answers(run))
        self.left_out: list[str] = []
        self.not_computed: list[str] = []
        """Tables that the script does not compute again, each with the reason."""

    def members(self, paper: Path) -> dict[str, bytes]:
        """Return every file by its name in the package, but the manifest."""
        rows, settings = self._rows()
        found = {
            "data/rows.csv": _csv(rows),
            "data/settings.json": _json(settings),
            "data/row_outcomes.csv": _csv(self._row_outcomes()),
            "data/training_rows.csv": _csv(self._training_rows()),
            "data/teacher_votes.csv": _csv(self._teacher_votes()),
            "data/teacher_answers.csv": _csv(self._teacher_answers()),
            "project.yaml": self._project(),
            "environment/requirements.txt": _requirements(),
            "reproduce.py": (files("edgedistill.report") / "reproduce.py").read_bytes(),
            **{f"prompts/{name}.txt": text for name, text in self._prompts()},
            **dict(self._results()),
            **{f"paper/{file.relative_to(paper).as_posix()}": file.read_bytes() for file in _files(paper)},
        }
        if lines := self._population():
            found["data/population.csv"] = _csv(lines)
        if self.report.estimates:
            if kept := read_kept(self.run, ROWS_FILE, "estimate"):
                found["data/estimates.json"] = _json(kept)
            else:
                self.not_computed.append(f"estimates, because the run folder has no {ROWS_FILE}: estimate again")
        plan = plan_file(self.run.project)
        for file in (plan, plan.with_suffix(".md")):
            if file.exists():
                found[file.name] = file.read_bytes()
        if self.texts:
            found |= dict(self._texts())
        found["README.md"] = self._readme(found)
        return found

    def _rows(self) -> tuple[Lines, dict[str, Any]]:
        """Return the validation and test rows with every coding, and what the script needs to read them."""
        run, measured, section = self.run, self.measured, self.run.project.evaluation
        splits, task = run.records.splits, run.task
        coded: list[tuple[str, CodedResponse]] = [
            *(("validation", row) for row in splits.validation),
            *(("test", row) for row in splits.test),
        ]
        ids = [row.response.id for _, row in coded]
        columns: dict[str, Mapping[str, object]] = {
            "coding:student": {
                **dict(zip(measured.validation.ids, measured.validation.labels, strict=True)),
                **dict(zip(measured.test.ids, measured.test.labels, strict=True)),
            },
            **{f"coding:{name}": codes for name, codes in measured.codings.items()},
        }
        forms, decisions = {"coding:student": PYTORCH}, {"student": self._student_decisions()}
        novelty, readable = student_novelty(measured), set(measured.validation.ids)
        if self.report.is_served and self.report.fidelity:
            served = self._served(self.report.fidelity.served)
            columns |= {f"form:{name}": labels for name, labels in served.items()}
            forms |= {f"form:{name}": name for name in served}
            scores = self._served_scores()
            decisions["served"] = {row: score.decision for row, score in scores.items()}
            novelty = {row: score.novelty for row, score in scores.items() if score.novelty is not None}
            readable = readable_rows(run)
        columns |= unlike_column(run, self.report, novelty, readable)
        columns |= promise_columns(run, self.report, measured.validation, decisions.get("served", decisions["student"]))
        columns |= self._curve()
        if "teacher" in measured.codings:
            forms["coding:teacher"] = "teacher"
        columns |= {f"decision:{name}": given for name, given in decisions.items()}
        columns |= {f"gate:{name}": labels for name, labels in self._gate_labels().items()}
        for name in section.coders:
            columns[f"coder:{name}"] = {row.response.id: row.codes[name] for _, row in coded if name in row.codes}
        for name in section.subgroups:
            if values := self._subgroup(name, coded):
                columns[f"subgroup:{name}"] = values
            else:
                self.left_out.append(f"the column {plain(name)}, in which a group has too few test rows")
        for place, label in enumerate(task.names if self.logits else ()):
            columns[f"logit:{plain(label)}"] = {
                row: repr(float(logits[place]))
                for scores in (measured.validation, measured.test)
                for row, logits in zip(scores.ids, scores.logits, strict=True)
            }
        texts = numbered(same_row(row.response.inputs) for _, row in coded)
        groups = numbered(
            row.response.group if row.response.group is not None else ("alone", row.response.id) for _, row in coded
        )
        grouped = any(row.response.group is not None for _, row in coded)
        lines: list[list[object]] = [["row", "split", "group", "text", "human", *map(plain, columns)]]
        for (split, row), text, group in zip(coded, texts, groups, strict=True):
            cells = [column.get(row.response.id, "") for column in columns.values()]
            start = [self.numbers.of[row.response.id], split, f"group-{group}" if grouped else "", f"text-{text}"]
            lines.append([*start, plain(row.label), *map(plain, cells)])
        test = {row.response.id for row in splits.test}
        uncoded = {
            plain(name): [self.numbers.of[row] for row in ids if row in test and row not in column]
            for name, column in columns.items()
            if name.startswith(("coding:", "form:"))
        }
        return lines, self._settings(forms, uncoded, columns)

    def _settings(
        self, forms: Mapping[str, str], uncoded: Mapping[str, list[str]], columns: Mapping[str, Mapping[str, object]]
    ) -> dict[str, Any]:
        report, section, task = self.report, self.run.project.evaluation, self.run.task
        names = {str(form): name for form, name in _FORMS.items()}
        served = "coding:student"
        if report.is_served and report.fidelity:
            served = f"form:{names[report.fidelity.served]}"
        shown = {
            name: served if place == 0 else f"coding:{'student' if name == 'student (PyTorch)' else name}"
            for place, name in enumerate(report.columns)
        }
        by_form = {name: column for column, name in forms.items()}
        steps = [(by_form.get(step.before), by_form.get(step.after)) for step in report.steps]
        subgroups = [
            [
                plain(table.column),
                plain(table.coding),
                served if table.coding == "student" else f"coding:{table.coding}",
            ]
            for table in report.served.subgroups
            if f"subgroup:{table.column}" in columns
        ]
        splits = self.run.records.splits
        coders: dict[str, list[Any]] = {
            plain(name): [
                f"coder:{plain(name)}",
                [
                    self.numbers.of[row.response.id]
                    for rows in (splits.validation, splits.test)
                    for row in rows
                    if name not in row.codes
                ],
            ]
            for name in section.coders
        }
        if len(coders) == 1:
            coders = {"label": ["human", []], **coders}
        student = ["decision:student", "coding:student"]
        codes = {row.label for rows in (splits.validation, splits.test) for row in rows}
        for name, column in columns.items():
            if name.startswith(("coding:", "form:", "gate:", "coder:", "curve:")):
                codes |= set(map(str, column.values()))
        gate, readable = self.report.gate, set(self.measured.validation.ids)
        return {
            "kind": task.kind,
            "labels": [plain(name) for name in task.names],
            "positive": section.positive and plain(section.positive),
            "smallest_subgroup": section.smallest_subgroup,
            "temperature": self.evaluation.calibration.temperature,
            "columns": {plain(name): plain(column) for name, column in shown.items()},
            "codings": {plain(name): f"coding:{plain(name)}" for name in self.evaluation.agreement},
            "uncoded": uncoded,
            "coders": coders,
            "alt_test_epsilon": section.alt_test_epsilon,
            "logits": self.logits,
            "unreadable": [
                self.numbers.of[row.response.id] for row in splits.validation if row.response.id not in readable
            ],
            "subgroups": subgroups,
            "decisions": {
                "validation": ["decision:served", served] if self._chosen_on_served else student,
                "test": ["decision:served", served] if report.is_served else student,
            },
            "guarantee": promise_settings(report, served),
            "novelty_limit": novelty.limit if (novelty := report.served.review.test.novelty) else None,
            "curve": [name for name in map(plain, columns) if name.startswith("curve:")],
            "not_computed": self.not_computed,
            "forms": {plain(column): plain(name) for column, name in forms.items()},
            "steps": [[before, after] for before, after in steps if before and after],
            "steps_left_out": [
                [step.before, step.after]
                for step, (before, after) in zip(report.steps, steps, strict=True)
                if not before or not after
            ],
            "teachers": [
                {
                    "name": plain(each.teacher),
                    "metric": each.metric,
                    "uncoded": [
                        self.numbers.of[row.response.id]
                        for row in self.run.records.splits.validation
                        if row.response.id not in columns[f"gate:{each.teacher}"]
                    ],
                }
                for each in (gate.teachers if gate else ())
            ],
            "codes": {plain(code): self._labels_of(code) for code in sorted(codes)}
            if task.kind == "multilabel"
            else {},
            "counted": [plain(name) for name in countable_labels(task)],
            "counted_as": self._counted(),
        }

    def _labels_of(self, code: str) -> list[str]:
        return [plain(name) for name in labels_in(code, self.run.task) if name in self.run.task.names]

    def _counted(self) -> dict[str, list[str]]:
        if self.run.task.kind != "multilabel":
            return {}
        rows = read_mixture(self.run.folder, self.run.task.inputs)
        return {plain(row.label): [plain(name) for name in labels_in(row.label, self.run.task)] for row in rows}

    def _student_decisions(self) -> dict[str, str]:
        measured, review = self.measured, self.evaluation.review
        return {
            row: score.decision
            for scores in (measured.validation, measured.test)
            for row, score in zip(scores.ids, scores.apply_rule(measured.chosen.temperature, review.rule), strict=True)
        }

    @property
    def _evaluated(self) -> list[Response]:
        """The validation and test rows."""
        splits = self.run.records.splits
        return [*splits.validation.responses, *splits.test.responses]

    @property
    def _chosen_on_served(self) -> bool:
        """Whether the decision rule was chosen on the scores of the served graph."""
        fidelity = self.report.fidelity
        rule = fidelity.figures.rule if fidelity and fidelity.figures else None
        return self.report.is_served and rule is not None and rule.validation is not None

    def _served_scores(self) -> dict[str, Score]:
        scores = Scorer(self.run.bundle).score([dict(each.inputs) for each in self._evaluated])
        return {each.id: score for each, score in zip(self._evaluated, scores, strict=True)}

    def _curve(self) -> dict[str, dict[str, str]]:
        columns = curve_columns(self.run, self.report)
        if columns is None:
            self.not_computed.append(f"learning_curve, because the run folder has no {CURVE_CODES_FILE}: measure again")
        return columns or {}

    def _served(self, served: str) -> dict[str, dict[str, str]]:
        """Return the labels of the rows by each graph of the bundle, by its name in `fidelity.json`."""
        bundle, responses = self.run.bundle, self._evaluated
        encoder = load_encoder(bundle)
        rows = [task_inputs(each.inputs, self.run.task) for each in responses]
        found = {}
        for precision, name in _FORMS.items():
            graph = bundle.model_file(precision)
            if graph is not None and precision in ("fp32", served):
                labels = bundle.manifest.label_decoder.labels(graph_logits(graph, encoder, rows))
                found[name] = {each.id: label for each, label in zip(responses, labels, strict=True)}
        return found

    def _gate_labels(self) -> dict[str, dict[str, str]]:
        """Return each teacher's label of the validation rows that it coded."""
        run = self.run
        if not run.project.panel:
            return {}
        responses = run.records.splits.validation.responses
        labellings = run.code_with_each(run.panel, responses, "replication: {} codes validation rows")
        return {name: {row.id: row.label for row in labelling.labels} for name, labelling in labellings.items()}

    def _subgroup(self, column: str, rows: Sequence[tuple[str, CodedResponse]]) -> dict[str, str] | None:
        """Return the values that enough test rows have: the others could tell who a learner is.

        None if the rows without a value would be so few that they are known to be the others.
        """
        found = {row.response.id: row.subgroups.get(column, "") for split, row in rows if split == "test"}
        counts, smallest = Counter(found.values()), self.run.project.evaluation.smallest_subgroup
        shown = {row: value if counts[value] >= smallest else "" for row, value in found.items()}
        return None if 0 < list(shown.values()).count("") < smallest else shown

    def _row_outcomes(self) -> Lines:
        """Return what became of every row that was read, in no order that says which row it is."""
        records = self.run.records
        splits = {"train": records.splits.train, "validation": records.splits.validation, "test": records.splits.test}
        lines = [[row.response.file, "used", name] for name, rows in splits.items() for row in rows]
        lines += [[each.file, "used", "to label"] for each in records.unlabelled]
        lines += [[each.file, "set aside", plain(each.reason)] for each in records.set_aside]
        for table in self.run.label_tables:
            for what, number in table.counts.used.items():
                lines += [[table.counts.file, "used", what]] * number
            lines += [[table.counts.file, "set aside", plain(each.reason)] for each in table.set_aside]
        return [["file", "outcome", "what"], *sorted(lines)]

    def _training_rows(self) -> Lines:
        rows = read_mixture(self.run.folder, self.run.task.inputs)
        shares = [json.dumps({plain(name): share for name, share in row.shares.items()}) for row in rows]
        lines = [[row.source, plain(row.label), each] for row, each in zip(rows, shares, strict=True)]
        return [["source", "label", "shares"], *sorted(lines)]

    def _teacher_votes(self) -> Lines:
        """Return the teacher's votes on every response that it coded for training."""
        header: list[object] = ["teacher", "label", "consistency", "votes"]
        if not is_done(self.run, "label"):
            return [header]
        text = self.run.folder.read_text("labels.jsonl")
        found = [json.loads(line) for line in text.split("\n") if line]
        lines = [
            [plain(each["teacher"]), plain(each["label"]), repr(each["consistency"]), json.dumps(each["votes"])]
            for each in found
        ]
        return [header, *sorted(lines)]

    def _teacher_answers(self) -> Lines:
        """Return who gave each cached answer, when and how it ended, in no order that says to what."""
        lines = []
        for each in self.answers:
            answer = each.entry.answer
            choices = answer.get("choices")
            first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
            served, mark = answer.get("model"), answer.get("system_fingerprint")
            vote = each.entry.request.get("vote")
            kind = "coding" if each.votes else "synthetic responses"
            labels = sorted({plain(label) for label in each.votes.values()})
            cells = (each.teacher, kind, vote, served or "", mark or "", each.date, first.get("finish_reason") or "")
            lines.append([*map(plain, cells), json.dumps(labels)])
        header = ["teacher", "kind", "vote", "served_model", "fingerprint", "date", "finish_reason", "labels"]
        return [[*header], *sorted(lines)]

    def _population(self) -> Lines:
        population = project_population(self.run)
        if population is None:
            return []
        inputs = [dict(response.inputs) for response in population.responses]
        labels = self.measured.test.label_decoder.labels(self.measured.student.logits(inputs)) if inputs else ()
        lines = [["human", plain(code)] for code in population.known]
        lines += [["student", plain(label)] for label in labels]
        return [["source", "label"], *sorted(lines)]

    def _project(self) -> bytes:
        """Return the project file; without texts as it was read, without comments, ids and patterns."""
        if self.texts:
            return self.run.project.path.read_bytes()
        content = self.run.project.model_dump(mode="json", exclude_unset=True)
        for teacher in [content.get("teacher") or {}, *(content.get("teachers") or [])]:
            if teacher.pop("few_shot_ids", None):
                self.left_out.append("the ids of the examples in prompts (`few_shot_ids`)")
        redact = content["task"].get("redact")
        if isinstance(redact, dict) and redact.pop("ids", None):
            self.left_out.append("the patterns of `task.redact`, which may be a list of names")
        stream = io.StringIO()
        writer = YAML()
        writer.width = 120
        writer.dump(content, stream)
        return stream.getvalue().encode()

    def _prompts(self) -> Iterator[tuple[str, bytes]]:
        for name, teacher in self.run.asked.items():
            yield name, coding_prompt(teacher).encode()

    def _results(self) -> Iterator[tuple[str, bytes]]:
        """Yield the files of the run, without what names a row."""
        folder = self.run.folder
        results = ("evaluation.json", "fidelity.json", "gate.json", "run.json", "generation.json", "shrinking.json")
        for name in (*results, LEARNING_CURVE_FILE, ESTIMATES_FILE):
            if folder.has(name):
                value = folder.read_json(name)
                if name == "generation.json":
                    value = {key: value[key] for key in _GENERATION if key in value}
                yield f"run/{name}", _json(_without(value, _NOTES))
        if folder.has("trials.csv"):
            yield "run/trials.csv", (folder / "trials.csv").read_bytes()
        if self.report.bundle:
            manifest = folder.read_json("bundle/bundle.json")
            kept = ("schema_version", "name", "version", "precision", "recipe", "temperature", "review", "files")
            kept_claims = ("guarantee", "novelty")
            yield "run/bundle.json", _json({key: manifest[key] for key in (*kept, *kept_claims) if key in manifest})

    def _texts(self) -> Iterator[tuple[str, bytes]]:
        """Yield what contains responses or ids."""
        run, project = self.run, self.run.project
        data = project.data
        tables = [each.labels for each in project.panel if isinstance(each, ExistingLabelsSection)]
        for given in (data.human, data.unlabelled, data.reviewed, project.evaluation.population, *tables):
            if given is not None and (file := project.folder / given).exists():
                yield f"texts/{file.name}", file.read_bytes()
        entries = (
            {"key": each.entry.key, "request": each.entry.request, "answer": each.entry.answer} for each in self.answers
        )
        lines = sorted({json.dumps(entry, ensure_ascii=False, sort_keys=True) for entry in entries})
        yield "texts/answers.jsonl", "".join(f"{line}\n" for line in lines).encode()
        for name in (
            "labels.jsonl",
            "synthetic.jsonl",
            "generation.json",
            "mixture.csv",
            "test_scores.csv",
            "set_aside.csv",
        ):
            if run.folder.has(name):
                yield f"texts/{name}", (run.folder / name).read_bytes()
        yield "texts/ids.csv", _csv([["row", "id"], *([number, row] for row, number in self.numbers.of.items())])

    def _readme(self, members: Mapping[str, bytes]) -> bytes:
        settings = json.loads(members["data/settings.json"])
        return _README.format(
            name=plain(self.run.project.name),
            version=version("edgedistill"),
            left_out="\n".join(f"- {each}" for each in self._omissions()),
            limits="\n".join(f"- {each}" for each in self._limits(settings, members)),
            texts=_TEXTS if self.texts else "",
        ).encode()

    def _omissions(self) -> Iterator[str]:
        """Yield what is not in the package."""
        if self.texts:
            yield "the cache's answers to other projects"
        else:
            yield "every response, question and reference answer"
            yield "every row's id; rows have numbers, and groups (learners) likewise"
            yield "requests, answers and reasons of the teacher, and synthetic responses, which may repeat responses"
            yield "hashes of single texts: a short text can be found from its hash by trying"
            yield "subgroups of fewer test rows than `evaluation.smallest_subgroup`"
        yield from dict.fromkeys(self.left_out)
        if not self.logits:
            yield "the logits of the student"
        yield "the weights of the student: publish the bundle beside this package"

    def _limits(self, settings: Mapping[str, Any], members: Mapping[str, bytes]) -> Iterator[str]:
        """Yield what a person must know before the package is published or relied on."""
        splits = self.run.records.splits
        if splits.predefined:
            yield (
                "The rows of `data/rows.csv` are in the order of the data file, because intervals depend on it. If "
                "that is the order of a list that others have, such as a class list, it says who wrote what."
            )
        if any(row.response.group is not None for row in splits.test):
            yield "Rows of one group (a learner) have the same number."
        if settings["subgroups"] or (settings["guarantee"] or {}).get("groups"):
            yield "Rows have the values of the columns that agreement was compared by."
        if self.logits and not self.texts:
            yield (
                "The logits in `data/rows.csv` show whoever has the student, too, whether a guessed text is that of a "
                "row. `--no-logits` leaves them out; the table `calibration` is then not computed again."
            )
        if not self.logits:
            yield "The table `calibration` is not computed again, because the logits are left out."
        if "data/estimates.json" in members:
            yield (
                "`data/estimates.json` has the codes of every response that the estimates count, with the columns of "
                "groups and covariates."
            )
        yield from self._tables_left_out(settings)
        yield "Training and the choice of settings are not repeated; the decisions of the rule are taken as they are."

    def _tables_left_out(self, settings: Mapping[str, Any]) -> Iterator[str]:
        """Yield which tables are not computed again, and why."""
        if columns := [line for line in self.left_out if line.startswith("the column")]:
            yield f"The table `subgroups` is not computed again for {listed(columns)}."
        for table in self.not_computed:
            yield f"Not computed again: the table {table}."
        if left := [" to ".join(step) for step in settings["steps_left_out"]]:
            yield f"The table `fidelity` is not computed again, because the package lacks labels of: {'; '.join(left)}."


_README = """\
# Replication package of {name}

Made by EdgeDistill {version}. To compute every table again from the rows, and to compare it with `paper/tables`:

    python reproduce.py                                # figures, with Python alone
    pip install -r environment/requirements.txt        # then also every interval and the other tables
    python reproduce.py

It prints a line per table, and ends with REPRODUCED or with what differs; the exit code is 0, 1 (a number differs or a
file was changed) or 3 (EdgeDistill is not installed). No model is run and nothing is downloaded.

| files | content |
|---|---|
| `paper/` | methods section, references, tables |
| `data/rows.csv` | validation and test rows: human codes, every machine coding, logits of the student, decisions |
| `data/settings.json` | what the script needs to read them |
| `data/row_outcomes.csv`, `data/training_rows.csv` | what became of every row; the training rows by source |
| `data/teacher_votes.csv`, `data/teacher_answers.csv` | the teacher's votes on training rows; who answered, and when |
| `project.yaml`, `prompts/` | all settings and seeds; the prompts without examples and response |
| `run/` | the results of every stage, with versions, dates and costs |
| `environment/requirements.txt` | every installed package |
| `MANIFEST.json` | SHA-256 of every file |
{texts}
## What is left out

{left_out}

## What to know

{limits}
"""
_TEXTS = """\
| `texts/` | responses and ids, the teacher's answers (`edgedistill cache import texts/answers.jsonl`); personal data |
"""


def require_no_quotes(run: Run, members: Mapping[str, bytes]) -> None:
    """Check that no text of the project, such as a definition in the codebook, quotes a response.

    Only letters and digits are compared: quotes, commas and line breaks are written differently in YAML, JSON, CSV,
    Markdown and LaTeX.
    """
    written = {
        name: _letters(_plain(name, content.decode("utf-8", "replace")))
        for name, content in members.items()
        if name.endswith((".md", ".tex", ".txt", ".yaml", ".json")) or name == "paper/tables/codebook.csv"
    }
    for response in _responses(run):
        text = fold_text(response.text)
        if len(text) >= _QUOTED_CHARACTERS and len(text.split()) >= _QUOTED_WORDS:
            quoted = _letters(response.text)
            for name, content in written.items():
                if len(quoted) >= _QUOTED_CHARACTERS // 2 and quoted in content:
                    raise RunError(
                        f"quotes the response in {response.place}",
                        where=f"{name} of the replication package",
                        hint="Reword the codebook, or pack the texts too (--texts) if they may be published.",
                    )


def _plain(name: str, text: str) -> str:
    """Return the text of a file without the escapes of its format that contain letters."""
    if name.endswith((".json", ".yaml")):
        read = json.loads if name.endswith(".json") else YAML(typ="safe", pure=True).load
        return "\n".join(_strings(read(text)))
    return re.sub(r"\\[A-Za-z]+\{\}", "", text) if name.endswith(".tex") else text


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from (*_strings(key), *_strings(each))
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


def _letters(text: str) -> str:
    """Return the letters and digits of a text, without case and in one form."""
    return "".join(filter(str.isalnum, fold_text(text)))


def _responses(run: Run) -> Iterator[Response]:
    splits = run.records.splits
    for rows in (splits.train, splits.validation, splits.test):
        yield from rows.responses
    yield from run.records.unlabelled


def _require_reproduced(members: Mapping[str, bytes]) -> None:
    """Unpack the files and run the script in them."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        for name, content in members.items():
            file = Path(temporary) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        said: list[str] = []
        failed = reproduce.main([temporary], said.append)
    if failed:
        differences = [line.strip() for line in said if not line.startswith("same")]
        raise RunError(
            f"the tables of this run are not reproduced from its rows: {'; '.join(differences[:3])}",
            where="replication package",
            hint="Another version of EdgeDistill or of a library, or another processor, may have evaluated: evaluate "
            "and export again with this one, and repeat `edgedistill estimate` and `review curve`.",
        )


def _write_zip(target: Path, members: Mapping[str, bytes]) -> None:
    """Write a ZIP file whose bytes depend on its files only; after an interruption the old file is there, or none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as stream:
        part = Path(stream.name)
        try:
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
                for name in sorted(members):
                    info = zipfile.ZipInfo(name, _ZIP_DATE)
                    info.compress_type, info.external_attr, info.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
                    archive.writestr(info, members[name])
            stream.close()
            part.chmod(0o644)
            shutil.move(part, target)
        except BaseException:
            stream.close()
            part.unlink(missing_ok=True)
            raise


def _without(value: Any, names: Sequence[str]) -> Any:
    """Return a JSON value without the keys with these names."""
    if isinstance(value, dict):
        return {key: _without(each, names) for key, each in value.items() if key not in names}
    return [_without(each, names) for each in value] if isinstance(value, list) else value


def _requirements() -> bytes:
    installed = {f"{each.metadata['Name']}=={each.version}" for each in distributions() if each.metadata["Name"]}
    return "".join(f"{line}\n" for line in sorted(installed, key=str.lower)).encode()


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _csv(lines: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    write_records(text, lines)
    return text.getvalue().encode()


def _json(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()
