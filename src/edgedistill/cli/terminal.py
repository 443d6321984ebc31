"""Terminal output of a run: progress, results, or one JSON object instead."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgedistill.cli.project_argument import complete_commands
from edgedistill.data import Records
from edgedistill.progress import OnProgress, progress_bars
from edgedistill.project import Project
from edgedistill_serve.bundle.guarantee import Guarantee, describe_guarantee
from edgedistill_serve.cli.terminal import write_json

if TYPE_CHECKING:  # the stages import torch, which `--help` and a wrong project file should not wait for
    from edgedistill.pipeline import Prompt, StageResult

_FAILURES = "the endpoint's answers are in failures.jsonl in the cache folder"
_DIVERSITY = ("distinct_1", "distinct_2", "self_bleu")


class Terminal:
    """Prints results for people, or one JSON object.

    Args:
        as_json: Print only one JSON object on standard output, in `finish`.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        # Names of labels, files and groups are printed as they are: `[b]` is no markup, and `:x:` no emoji.
        self.console = Console(
            quiet=as_json, highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty()
        )

    def progress(self) -> AbstractContextManager[OnProgress]:
        """Progress bars, shown where standard error is a terminal."""
        return progress_bars(quiet=self.as_json)

    def say(self, line: str) -> None:
        """Print a line verbatim."""
        self.console.print(complete_commands(line))

    def next_steps(self, *steps: str) -> None:
        """Print what to do next, a step a line; nothing without a step."""
        if steps:
            self.console.print("next:", style="bold")
        for step in steps:
            self.console.print(f"  {complete_commands(step)}", soft_wrap=True)

    def opening(self, project: Project, records: Records) -> None:
        """Print the project and its row counts."""
        say = self.console.print
        say(Text.assemble((project.name, "bold"), f"  {project.path}"))
        self.row_counts(records)
        for note in records.notes:
            say(f"  note: {note}")

    def row_counts(self, records: Records) -> None:
        """Print what became of the rows of every file."""
        for account in records.row_counts:
            used = ", ".join(f"{n} {what}" for what, n in account.used.items())
            self.console.print(f"  {account.file}: {account.read} rows read = {used}{_set_aside(account.set_aside)}")

    def step(self, step: "StageResult") -> None:
        """Print the result of a stage."""
        how = "done earlier" if step.skipped else f"{step.seconds:.1f} s"
        self.console.print(Text.assemble((step.stage, "bold"), f"  {how}{_summary_lines(step.entry)}"))

    def gate(self, verdict: Mapping[str, Any]) -> None:
        """Show the gate's table, with a column and a verdict per teacher."""
        from edgedistill.teacher.gating import describe_certainty, figure_of_all, requirement  # loads SciPy

        teachers = verdict["teachers"]
        columns = {f"teacher {each['teacher']}": each["agreement"] for each in teachers}
        if len(teachers) > 1:
            columns["together"] = verdict["agreement"]
        if measured := {name: column for name, column in columns.items() if column}:
            self.console.print(_table(measured))
        for each in teachers:
            whose = f"{each['teacher']}: " if len(teachers) > 1 else ""
            if each["set_aside"]:
                aside = f"{len(each['set_aside'])} of {each['rows']} validation rows"
                self.console.print(f"  {whose}{aside} were not coded by the teacher")
                for cause, n in Counter(row["reason"] for row in each["set_aside"]).most_common():
                    self.console.print(f"    {n}: {cause}")
                if _has_endpoint_failures(each["set_aside"]):
                    self.console.print(f"    {_FAILURES}")
                self.console.print(f"  {whose}counted as coded wrongly: {figure_of_all(each)}", markup=False)
            outcome = (
                "passed"
                if each["passed"]
                else "refused, accepted by --accept-teacher"
                if each["accepted"]
                else "refused"
            )
            self.console.print(Text.assemble(f"  gate: {whose}{requirement(each)}: ", (outcome, "bold")))
            for line in (*_alt_test_lines(each), *describe_certainty(each)):
                self.console.print(f"  {whose}{line}", markup=False)
        self.between(verdict["between"])

    def between(self, found: Mapping[str, Any] | None) -> None:
        """Show the agreement among several teachers."""
        if not found:
            return
        for pair in found["pairs"]:
            kappa = "{value:.3f} [{low:.3f}, {high:.3f}]".format(**pair["kappa"]) if pair["kappa"] else "undefined"
            lines = f"  {pair['first']} and {pair['second']}: kappa {kappa} on {pair['rows']} rows"
            self.console.print(lines)
        alpha = "undefined" if found["alpha"] is None else f"{found['alpha']:.3f}"
        self.console.print(f"  all teachers: Krippendorff's alpha {alpha} on {found['rows']} rows")

    def prompt(self, prompt: "Prompt") -> None:
        """Show a teacher's prompt."""
        request = prompt.request
        self.console.print(f"teacher {prompt.teacher}, model {request.model}", style="bold")
        for message in request.messages:
            self.console.print(f"--- {message['role']}", style="bold")
            self.console.print(message["content"], soft_wrap=True)
        self.console.print("--- response_format", style="bold")
        shown = json.dumps(request.response_format, ensure_ascii=False, indent=2)
        self.console.print(shown, soft_wrap=True)

    def generation(self, generation: Mapping[str, Any]) -> None:
        """Show agreement of coding with the intended labels, and the diversity of the samples."""
        if generation["regraded"]:
            self.console.print("Teacher's codes of the samples, compared with their intended labels")
            self.console.print(_table({"regraded": generation["regraded"]}))
        columns = ("texts", "label", "temp.", "rows", "dist-1", "dist-2", "self-BLEU", "words")
        table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
        for row in generation["diversity"]:
            figures = ("-" if row[name] is None else f"{row[name]:.2f}" for name in _DIVERSITY)
            words = " ".join(f"{n:.0f}" for n in row["words"] or ())
            temperature = "" if row["temperature"] is None else f"{row['temperature']:g}"
            table.add_row(row["of"], Text(row["label"]), temperature, str(row["rows"]), *figures, words)
        self.console.print(table)
        self.console.print(
            "  dist-1, dist-2: share of distinct words and word pairs; words: length, 10th, 50th and 90th percentile"
        )

    def agreement(self, evaluation: Mapping[str, Any]) -> None:
        """Show agreement of student and teacher with the human codes of the test rows."""
        self.console.print(f"Agreement with human codes on {evaluation['rows']} locked test rows, 95 % intervals")
        self.console.print(_table(evaluation["agreement"]))
        for line in _quality_lines(evaluation):
            self.console.print(f"  {line}")

    def fidelity(self, export: Mapping[str, Any]) -> None:
        """Show the steps from the trained model to the file that is served."""
        self.console.print("Label flips on validation rows, scored one at a time")
        table = Table("from", "to", "rows", "flips", "largest probability change", box=box.SIMPLE_HEAD, pad_edge=False)
        for step in export["steps"]:
            flips = f"{step['flips']} ({step['flip_rate']:.1%})"
            table.add_row(
                step["before"], step["after"], str(step["rows"]), flips, f"{step['max_probability_difference']:.4f}"
            )
        self.console.print(table)
        self._on_test_rows(export.get("steps_on_test_rows") or [])
        if found := export.get("agreement"):
            self.console.print(f"Agreement with human codes on {found['rows']} locked test rows, 95 % intervals")
            self.console.print(_table({f"served model ({export['served']})": found}))
        if export.get("tuning"):
            self._tuning(export["tuning"])
        for note in export["notes"]:
            self.console.print(f"  note: {note}")

    def _on_test_rows(self, steps: Sequence[Mapping[str, Any]]) -> None:
        if not steps:
            return
        self.console.print("On locked test rows, with the kappa lost against human codes, 95 % paired intervals")
        table = Table("from", "to", "rows", "flips", "kappa lost", box=box.SIMPLE_HEAD, pad_edge=False)
        for step in steps:
            rate = "{value:.1%} [{low:.1%}, {high:.1%}]".format(**step["flip_rate"])
            lost = "{value:.3f} [{low:.3f}, {high:.3f}]".format(**step["kappa_lost"]) if step["kappa_lost"] else "-"
            table.add_row(step["before"], step["after"], str(step["rows"]), f"{step['flips']} = {rate}", lost)
        self.console.print(table)

    def _tuning(self, tuning: Mapping[str, Any]) -> None:
        self.console.print(f"Recipes on {tuning['rows']} validation rows and this CPU, scored one at a time")
        heads = ("recipe", "flips", "largest change", "batch flips", "kappa lost", "texts/s", "MB")
        table = Table(*heads, box=box.SIMPLE_HEAD, pad_edge=False)
        for one in tuning["tried"]:
            if one["fault"]:
                table.add_row(one["recipe"], one["fault"])
                continue
            lost = "-" if one["kappa_lost"] is None else f"{one['kappa_lost']:.3f}"
            table.add_row(
                one["recipe"],
                f"{one['flip_rate']:.2%}",
                f"{one['max_probability_difference']:.3f}",
                str(one["batch_flips"]),
                lost,
                "/".join(f"{speed:.0f}" for speed in one["texts_per_second"].values()),
                f"{one['bytes'] / 1e6:.1f}",
            )
        self.console.print(table)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Print the JSON object if requested."""
        if self.as_json:
            write_json(json.dumps(result, ensure_ascii=False, indent=2))


def _set_aside(reasons: Mapping[str, int]) -> str:
    if not reasons:
        return ""
    lines = ", ".join(f"{n} {reason}" for reason, n in reasons.items())
    return f" + {sum(reasons.values())} set aside ({lines})"


def _summary_lines(entry: Mapping[str, Any]) -> str:
    """The main figures of a stage, a line each."""
    lines: list[str] = []
    if (cost := entry.get("cost")) and any(cost.values()):  # labels that exist already cost nothing
        lines.append(_cost(cost))
    if "labelled" in entry:
        lines.append(f"{entry['rows']} responses = {entry['labelled']} labelled + {len(entry['set_aside'])} set aside")
        lines += [f"  {n} set aside: {cause}" for cause, n in entry["set_aside_by_cause"].items()]
        lines += [f"  {_FAILURES}"] if _has_endpoint_failures(entry["set_aside"]) else []
    if "calls" in entry:
        lines += _sample_counts(entry)
    if counts := entry.get("by_source_and_label"):
        several = " (each row counts for all of its labels)" if sum(counts.values()) > entry["rows"] else ""
        lines.append(f"{entry['rows']} rows{several}: " + ", ".join(f"{n} {what}" for what, n in counts.items()))
    if best := entry.get("best"):
        where = f"at epoch {best['best_epoch']} (seed {best['seed']})" if "seed" in best else "of the frozen encoder"
        if "validation_macro_f1" in best:
            lines.append(f"validation macro-F1 {best['validation_macro_f1']:.3f} {where}")
    if headline := entry.get("headline"):
        lines.append(f"report.html: {headline}")
    lines += entry.get("notes", []) if "steps" not in entry else []
    return "".join(f"\n  {line}" for line in lines)


def _sample_counts(entry: Mapping[str, Any]) -> Iterator[str]:
    """The counts of the synthetic samples."""
    removed = "".join(f" + {n} removed ({reason})" for reason, n in entry["removed"].items())
    yield f"{entry['asked_for']} samples requested; {entry['written']} written = {entry['kept']} kept{removed}"
    if entry["missing"]:
        failed = "; ".join(f"{n} requests failed: {cause}" for cause, n in entry["calls_failed"].items())
        yield f"{entry['missing']} samples are missing" + (f"; {failed}; {_FAILURES}" if failed else "")
    if near := entry["near_train"]["rows"]:
        other = entry["near_train"]["with_another_human_code"]
        yield f"{near} kept samples are near-duplicates of a train row, {other} of them with a different human code"


def _quality_lines(evaluation: Mapping[str, Any]) -> Iterator[str]:
    """Calibration, decision rule and human coders, a line each."""
    calibration, review = evaluation["calibration"], evaluation["review"]
    if calibration["method"] != "none":
        before, after = (calibration["test"][when]["ece"]["value"] for when in ("before", "after"))
        yield (
            f"temperature {calibration['temperature']:.2f} from {calibration['rows']} validation rows: calibration "
            f"error on test rows {before:.3f}, calibrated {after:.3f}"
        )
    if review["aim"]:
        accepted, kept = review["test"]["share_accepted"], review["test"]["agreement"]
        kappa = "" if kept is None else f", their kappa {_interval(kept['kappa'])}"
        yield f"decision rule: accepts {_interval(accepted)} of the test rows{kappa}"
    if review["aim"] and review["aim"]["aim"] == "at_most_wrong":
        given = review["guarantee"] and msgspec.convert(review["guarantee"], Guarantee)
        yield f"before the export: {describe_guarantee(given)}"
    for pair in (evaluation["human_agreement"] or {}).get("pairs", ()):
        kappa = _interval(pair["agreement"] and pair["agreement"]["kappa"])
        yield f"human coders {pair['first']} and {pair['second']}: kappa {kappa} on {pair['rows']} test rows"
    yield from (evaluation["human_agreement"] or {}).get("notes", ())
    yield from _alt_test_lines(evaluation["human_agreement"] or {})


def _alt_test_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The alternative annotator test of a teacher or student, or why there is none."""
    if tested := found.get("alt_test"):
        from edgedistill.agreement.alt_test import alt_test_verdict  # loads SciPy

        yield alt_test_verdict(tested)
        yield from tested["notes"]
    elif found.get("alt_test_note"):
        yield f"no alternative annotator test: {found['alt_test_note']}"


def _interval(estimate: Mapping[str, float] | None) -> str:
    return "undefined" if estimate is None else "{value:.3f} [{low:.3f}, {high:.3f}]".format(**estimate)


def _cost(cost: Mapping[str, Any]) -> str:
    counts = {
        name: value for name, value in cost.items() if name != "nano_dollars" and isinstance(value, int) and value
    }
    lines = [f"{value:,} {name.replace('_', ' ')}" for name, value in counts.items()]
    if nano := cost["nano_dollars"]:
        from edgedistill.report.formatting import dollars  # loads SciPy

        lines.append(dollars(nano))
    lines += [f"{n} tries failed: {cause}" for cause, n in cost["retries"].items()]
    return "teacher: " + ", ".join(lines)


def _has_endpoint_failures(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether some of these rows were set aside because of the endpoint's answer (not a tie, for example)."""
    return any("failures.jsonl" in row.get("detail", "") for row in rows)  # older gate.json files have no detail


def _table(columns: Mapping[str, Mapping[str, Any]]) -> Table:
    from edgedistill.agreement import Agreement, agreement_table

    return agreement_table({name: Agreement.from_dict(column) for name, column in columns.items()})
