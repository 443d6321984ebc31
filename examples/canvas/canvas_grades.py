"""Grade a question of a Canvas quiz offline: from Student Analysis and gradebook to a file that Canvas imports.

    python canvas_grades.py BUNDLE ANALYSIS GRADEBOOK OUT --question 5101 --assignment 9001

The model reads the question, the reference answer and the response, never a name or an id. Points are entered where the
model accepts its score; the other answers are listed in `OUT.review.csv`, without names, and their cells stay as they
were. Nothing is sent anywhere. Exit codes: 0 done; 2 an argument or a file has to be corrected first.
"""

import argparse
import csv
import io
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgedistill_serve import DataError, EdgeDistillError, Score, Scorer
from edgedistill_serve.bundle.verdict import describe_verdict
from edgedistill_serve.grading.formula_cells import escape_cell


@dataclass(frozen=True)
class Table:
    """A CSV file: its rows, the header among them, and how it was written."""

    rows: list[list[str]]
    delimiter: str
    encoding: str

    @property
    def header(self) -> list[str]:
        """The names of the columns."""
        return self.rows[0]


@dataclass(frozen=True)
class Answer:
    """The last attempt of a student; `student` is the Canvas id, empty for somebody who was not logged in."""

    student: str
    attempt: tuple[int, str]
    response: str


@dataclass(frozen=True)
class Question:
    """What is graded, and how many points it has."""

    text: str
    reference_answer: str
    points: dict[str, float]


def main() -> int:
    """Read the arguments; an error is one line."""
    parser = argparse.ArgumentParser(description="Grade a question of a Canvas quiz offline.")
    parser.add_argument("bundle", metavar="BUNDLE", type=Path)
    parser.add_argument("analysis", metavar="ANALYSIS", type=Path, help="the quiz's Student Analysis, a CSV file")
    parser.add_argument("gradebook", metavar="GRADEBOOK", type=Path, help="the exported gradebook, a CSV file")
    parser.add_argument("out", metavar="OUT", type=Path, help="the file to import into the gradebook")
    parser.add_argument("--question", metavar="ID", required=True, help="the number before the question's text")
    parser.add_argument("--assignment", metavar="ID", required=True, help="the number behind the assignment's name")
    parser.add_argument("--reference-answer", metavar="TEXT", default="", help="if the bundle's task has one")
    parser.add_argument("--replace", action="store_true", help="also replace scores that the gradebook has already")
    parser.add_argument(
        "--unvalidated", action="store_true", help="also enter scores that the bundle's verdict does not cover"
    )
    given = parser.parse_args()
    try:
        grade(given)
    except EdgeDistillError as error:
        print(f"canvas_grades: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def grade(given: argparse.Namespace) -> None:
    """Write OUT and OUT.review.csv, and print what became of every student and every answer."""
    analysis, gradebook = read_table(given.analysis), read_table(given.gradebook)
    column = find_question(analysis, given.question, given.analysis)
    assignment = find_assignment(gradebook, given.assignment, given.gradebook)
    known = students_of(gradebook, given.gradebook)
    scorer = Scorer(given.bundle)
    question = Question(
        analysis.header[column].partition(": ")[2], given.reference_answer, points_of_labels(scorer, given.bundle)
    )
    check_points(gradebook, assignment, question, given.gradebook)
    answers = last_attempts(analysis, column, given.analysis)
    scores = score_answers(scorer, question, answers)
    print(describe_verdict(scorer.bundle.manifest.verdict))
    accepted = {
        answer.student: score.label
        for answer, score in zip(answers, scores, strict=True)
        if isinstance(score, Score) and not reason_for_review(score, unvalidated=given.unvalidated)
    }
    written, outcomes = enter_points(gradebook, assignment, accepted, answers, replace_scores=given.replace)
    review = [
        [answer.student, escape_cell(answer.response), *suggestion, reason if answer.student in known else NOT_ENROLLED]
        for answer, score in zip(answers, scores, strict=True)
        for suggestion, reason in [review_of(score, unvalidated=given.unvalidated)]
        if outcomes.get(answer.student, FOR_REVIEW) == FOR_REVIEW
    ]
    write_table(given.out, replace(gradebook, rows=written))
    listed = given.out.with_name(f"{given.out.name}.review.csv")
    write_table(listed, Table([REVIEW_COLUMNS, *review], ",", "utf-8-sig"))
    counts = Counter(outcomes.values())
    print(f"{len(outcomes)} students: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    print(f"{len(answers)} answers, {len(review)} of them in {listed}")
    print(f"Import {given.out} in Canvas: Gradebook, Import.")


REVIEW_COLUMNS = ["ID", "response", "suggested", "probability", "reason"]
FOR_REVIEW = "for review"
NOT_ENROLLED = "not in the gradebook"


def read_table(file: Path) -> Table:
    """Read a CSV file as Canvas writes it: UTF-8, with or without a byte order mark, with commas or semicolons.

    Raises:
        DataError: It cannot be read, has no rows, or a row has another number of fields than the header.
    """
    try:
        content = file.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror})", where=str(file)) from None
    except UnicodeDecodeError:
        hint = "Use the file as Canvas exported it; or, in a spreadsheet, save it as “CSV UTF-8”."
        raise DataError("the file is not UTF-8", where=str(file), hint=hint) from None
    first = text.partition("\n")[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if any(row)]
    except csv.Error as error:
        raise DataError(f"the file is not valid CSV ({error})", where=str(file)) from None
    if not rows:
        raise DataError("the file is empty", where=str(file), hint="Export it from Canvas again.")
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            where = f"{file}, row {number}"
            raise DataError(f"{len(row)} fields where the header has {len(rows[0])}", where=where)
    return Table(rows, delimiter, "utf-8-sig" if content.startswith(b"\xef\xbb\xbf") else "utf-8")


def write_table(file: Path, table: Table) -> None:
    """Write a CSV file."""
    with file.open("w", encoding=table.encoding, newline="") as stream:
        csv.writer(stream, delimiter=table.delimiter).writerows(table.rows)


def find_question(analysis: Table, ident: str, file: Path) -> int:
    """Return the place of a question's column, ``5101: Why does ice float?``."""
    found = [place for place, name in enumerate(analysis.header) if name.startswith(f"{ident}: ")]
    if len(found) == 1:
        return found[0]
    others = [name for name in analysis.header if name.partition(": ")[0].isdecimal() and ": " in name]
    hint = f"Its questions are: {'; '.join(others)}." if others else "Is it the Student Analysis of a classic quiz?"
    raise DataError(f"no column begins with '{ident}: '", where=str(file), hint=hint)


def find_assignment(gradebook: Table, ident: str, file: Path) -> int:
    """Return the place of an assignment's column, ``Ice (9001)``."""
    if gradebook.header[:2] != ["Student", "ID"] or "Section" not in gradebook.header:
        hint = "Export it in Canvas: Gradebook, Export."
        raise DataError("this is not a gradebook with the columns Student, ID and Section", where=str(file), hint=hint)
    found = [place for place, name in enumerate(gradebook.header) if name.endswith(f"({ident})")]
    if len(found) == 1:
        return found[0]
    others = [name for name in gradebook.header if name.endswith(")") and name.rpartition("(")[2][:-1].isdecimal()]
    hint = (
        f"Its assignments are: {'; '.join(others)}." if others else "Add the assignment in Canvas, then export again."
    )
    raise DataError(f"there is no assignment with the id {ident}", where=str(file), hint=hint)


def students_of(gradebook: Table, file: Path) -> set[str]:
    """Return the ids of the students in a gradebook."""
    counts = Counter(ident for row in gradebook.rows[1:] if (ident := row[1].strip()))
    if twice := [ident for ident, count in counts.items() if count > 1]:
        raise DataError(f"the student with the ID {twice[0]} has {counts[twice[0]]} rows", where=str(file))
    return set(counts)


def points_of_labels(scorer: Scorer, bundle: Path) -> dict[str, float]:
    """Return by label its points."""
    try:
        return {name: float(name) for name in scorer.bundle.task.names}
    except ValueError:
        hint = "Grades need a rubric whose labels are points, such as that of examples/rubric."
        raise DataError("the labels of this bundle are not numbers", where=str(bundle), hint=hint) from None


def check_points(gradebook: Table, assignment: int, question: Question, file: Path) -> None:
    """Refuse an assignment with another number of points than the rubric has."""
    most = max(question.points.values())
    row = next((row for row in gradebook.rows if "Points Possible" in row[0]), None)
    if row is None:
        raise DataError("there is no row 'Points Possible'", where=str(file), hint="Export the gradebook again.")
    try:
        possible = float(row[assignment].replace(",", "."))
    except ValueError:
        possible = float("nan")
    if possible != most:
        what = (
            f"{gradebook.header[assignment]!r} has {row[assignment] or 'no'} points, and the bundle's rubric {most:g}"
        )
        raise DataError(what, where=str(file), hint=f"Give the assignment {most:g} points in Canvas, and export again.")


def last_attempts(analysis: Table, column: int, file: Path) -> list[Answer]:
    """Return each student's last attempt, in the order of the file, and all answers of people not logged in."""
    header = analysis.header
    if "id" not in header:
        raise DataError("there is no column 'id'", where=str(file), hint="A survey is anonymous: grade it by hand.")
    last: dict[object, Answer] = {}
    for number, row in enumerate(analysis.rows[1:]):
        cells = dict(zip(header, row, strict=True))
        attempt = cells.get("attempt", "")
        answer = Answer(
            cells["id"].strip(), (int(attempt) if attempt.isdecimal() else 0, cells.get("submitted", "")), row[column]
        )
        before = last.setdefault(answer.student or number, answer)
        if answer.attempt > before.attempt:
            last[answer.student] = answer
    return list(last.values())


def score_answers(scorer: Scorer, question: Question, answers: Sequence[Answer]) -> list[Score | EdgeDistillError]:
    """Score the answers; only these texts reach the model."""
    inputs = scorer.bundle.task.inputs
    shared = {"question": question.text, "reference_answer": question.reference_answer}
    if "reference_answer" in inputs and not question.reference_answer:
        raise DataError("the bundle compares with a reference answer", hint="Give it by --reference-answer.")
    context = {name: text for name, text in shared.items() if name in inputs}
    return scorer.score_each([{**context, "response": answer.response} for answer in answers])


def reason_for_review(score: Score, *, unvalidated: bool) -> str:
    """Return why a person has to look at the answer; empty if nobody has to."""
    if score.decision != "accept":
        return score.reason or "review"
    return "" if unvalidated or score.verdict == "validated" else "not validated"


def review_of(score: Score | EdgeDistillError, *, unvalidated: bool) -> tuple[list[str], str]:
    """Return label and probability as suggestions, and the reason for a review."""
    if isinstance(score, EdgeDistillError):
        return ["", ""], str(score)
    return [score.label, f"{score.probability:.3f}"], reason_for_review(score, unvalidated=unvalidated)


def enter_points(
    gradebook: Table, assignment: int, accepted: dict[str, str], answers: Sequence[Answer], *, replace_scores: bool
) -> tuple[list[list[str]], dict[str, str]]:
    """Return the rows for the import, and by student the outcome in words.

    The import changes the columns of the file only, so that it has the students' columns and this assignment. An empty
    cell would delete a score in Canvas, and therefore a cell keeps what it has unless points are entered.
    """
    kept = [*range(gradebook.header.index("Section") + 1), assignment]
    answered = {answer.student for answer in answers}
    rows: list[list[str]] = []
    outcomes: dict[str, str] = {}
    for number, row in enumerate(gradebook.rows):
        cells = [row[place] for place in kept]
        student = row[1].strip()
        if number > 0 and student:  # the others are the header, Points Possible and Manual Posting
            cells[-1], outcomes[student] = points_or_cell(
                student, row[assignment], accepted, answered, replace_scores=replace_scores
            )
        rows.append(cells)
    return rows, outcomes


def points_or_cell(
    student: str, cell: str, accepted: dict[str, str], answered: set[str], *, replace_scores: bool
) -> tuple[str, str]:
    """Return what the cell of a student has after grading, and the outcome in words."""
    if cell.strip().upper() in ("EX", "N/A"):
        return cell, "excused or not assigned"
    if student not in answered:
        return cell, "without an answer"
    if cell.strip() and not replace_scores:
        return cell, "graded before"
    return (accepted[student], "graded now") if student in accepted else (cell, FOR_REVIEW)


if __name__ == "__main__":
    sys.exit(main())
