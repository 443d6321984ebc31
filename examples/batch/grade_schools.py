"""Grade a folder with one table per school, and count labels and rows for review per school.

    python grade_schools.py BUNDLE TERM OUT

TERM has a table for each school: CSV, TSV, JSONL, Parquet or xlsx. OUT gets each table with its scores, and
`summary.csv`. Nothing is sent anywhere. Exit codes: 0 done; 2 an argument, a file or a row has to be corrected first.
"""

import argparse
import csv
import sys
from collections import Counter
from pathlib import Path

from edgedistill_serve import DataError, EdgeDistillError, Scorer
from edgedistill_serve.bundle.verdict import describe_verdict
from edgedistill_serve.grading.column_names import parse_columns
from edgedistill_serve.grading.grade import grade

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".xlsx")


def main() -> int:
    """Grade every table, then write the summary or say which rows are missing from it."""
    parser = argparse.ArgumentParser(description="Grade a folder with one table per school.")
    parser.add_argument("bundle", metavar="BUNDLE", type=Path)
    parser.add_argument("term", metavar="TERM", type=Path, help="the folder with the schools' tables")
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to write")
    parser.add_argument("--column", metavar="INPUT=NAME", action="append", default=[], help="the column of an input")
    given = parser.parse_args()
    try:
        return grade_schools(given.bundle, given.term, given.out, given.column)
    except EdgeDistillError as error:
        print(f"grade_schools: {error}", file=sys.stderr)
        return error.exit_code


def grade_schools(bundle: Path, term: Path, out: Path, named: list[str]) -> int:
    """Return 0, or 2 if rows could not be read or scored.

    Args:
        bundle: The bundle's folder.
        term: The folder with the schools' tables.
        out: The folder to write; what an earlier run wrote is replaced.
        named: Columns of inputs that have another name, such as ``response=2. Explain…``.

    Raises:
        DataError: There is no table, two have one name, or one cannot be read or lacks a column.
    """
    tables = schools(term)
    scorer = Scorer(bundle)
    columns = parse_columns(named, scorer.bundle.task.inputs)
    print(describe_verdict(scorer.bundle.manifest.verdict))
    out.mkdir(parents=True, exist_ok=True)
    (out / "summary.csv").unlink(missing_ok=True)  # an old summary beside new tables would mislead
    rows, problems = [], []
    for school, table in tables.items():
        graded = out / f"{school}.csv"
        counts = grade(scorer, table, graded, columns=columns, overwrite=True, note=lambda text: print(f"note: {text}"))
        print(f"{school}: {counts.read} rows, {counts.review} for review")
        rows.append({"school": school, "rows": counts.read, "review": counts.review, **label_counts(scorer, graded)})
        if counts.rejected:
            where = graded.with_name(f"{graded.name}.rejected.csv")
            problems.append(f"{table}: {counts.rejected} of {counts.read} rows cannot be read; {where} says why")
        if counts.errors:
            problems.append(
                f"{table}: {counts.errors} of {counts.read} rows have no score; see the column error of {graded}"
            )
    if problems:
        print("\n".join([*problems, "Correct these rows and grade again: no summary was written."]), file=sys.stderr)
        return 2
    with (out / "summary.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    print(f"wrote {out / 'summary.csv'}")
    return 0


def schools(term: Path) -> dict[str, Path]:
    """Return by school, the name of its file without the suffix, its table."""
    found: dict[str, Path] = {}
    for table in sorted(term.iterdir()) if term.is_dir() else ():
        if table.suffix.lower() not in SUFFIXES:
            continue
        if table.stem in found:
            raise DataError(f"{found[table.stem].name} and {table.name} would be one school", where=str(term))
        found[table.stem] = table
    if not found:
        raise DataError(
            "there is no table in this folder", where=str(term), hint=f"Tables end in {', '.join(SUFFIXES)}."
        )
    return found


def label_counts(scorer: Scorer, graded: Path) -> dict[str, int]:
    """Return by label its accepted rows; what a person has to look at first is not counted as a label.

    A row of a multilabel task counts for each of its labels.
    """
    counts: Counter[str] = Counter()
    with graded.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if row["decision"] == "accept":
                counts.update(row["label"].split(";") if scorer.bundle.task.kind == "multilabel" else [row["label"]])
    return {name: counts[name] for name in scorer.bundle.task.names}


if __name__ == "__main__":
    sys.exit(main())
