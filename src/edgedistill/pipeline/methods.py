"""The methods section and the tables of a paper about a run."""

import hashlib
import shutil
from pathlib import Path

from edgedistill.errors import RunError
from edgedistill.pipeline.answers import model_versions, run_answers
from edgedistill.pipeline.preregistration import check_plan
from edgedistill.pipeline.report import read_inputs
from edgedistill.pipeline.run import Run
from edgedistill.pipeline.stages import seen_by
from edgedistill.report.methods import MethodsInputs, methods
from edgedistill.report.paper_markup import PaperTable, Paragraph, bibliography, to_latex, to_markdown
from edgedistill.report.paper_tables import paper_tables
from edgedistill.teacher import AnswerFormat
from edgedistill.teacher.codebook import AnswerShape, build_opening_messages
from edgedistill.teacher.teacher import Teacher
from edgedistill_serve.bundle.atomic_folder import finish_replacement, replace_folder, temporary_sibling

FOLDER = "paper"
"""The folder in the run folder."""
_LATEX_NEEDS = """\
% Needs the packages booktabs and natbib; letters beyond Latin and Greek need LuaLaTeX or XeLaTeX.

"""


def write_methods(run: Run) -> Path:
    r"""Write the folder `paper` of the run folder: methods section, tables and references; it replaces an earlier one.

    methods.md          for Pandoc, with citations as ``[@key]``
    methods.tex         to be included with ``\input``; it needs the packages booktabs and natbib
    references.bib      what the two cite
    tables/NAME.csv     every table, with all digits
    tables/NAME.tex     the same for LaTeX, rounded

    Returns:
        The folder.

    Raises:
        RunError: A stage up to evaluate is not done with the current settings and data, or a file cannot be written.
        CacheDamaged: The answer cache cannot be read.
    """
    report = read_inputs(seen_by(run, "report"))
    answers = list(run_answers(run))
    paragraphs = methods(
        MethodsInputs(
            report=report,
            project=run.project,
            prompts={name: prompt_hash(teacher) for name, teacher in run.asked.items()},
            answers={each.called: model_versions(answers, each) for each in run.project.asked},
            plan=check_plan(run),
        )
    )
    folder = run.folder.path / FOLDER
    temporary = temporary_sibling(folder)
    try:
        finish_replacement(folder)
        write_paper(temporary, paragraphs, paper_tables(report))
        replace_folder(temporary, folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise RunError(
            f"cannot be written ({error.strerror})",
            where=str(folder),
            hint="Check the free disk space and the write permission of the run folder.",
        ) from None
    return folder


def write_paper(folder: Path, paragraphs: tuple[Paragraph, ...], tables: tuple[PaperTable, ...]) -> None:
    """Write the files of `write_methods` into a new folder.

    Raises:
        OSError: A file cannot be written.
    """
    texts = [paragraph.text for paragraph in paragraphs]
    markdown = "".join(f"## {to_markdown(each.heading)}\n\n{to_markdown(each.text)}\n\n" for each in paragraphs)
    latex = "".join(f"\\paragraph{{{to_latex(each.heading)}.}}\n{to_latex(each.text)}\n\n" for each in paragraphs)
    (folder / "tables").mkdir(parents=True)
    _write(folder / "methods.md", f"# Methods\n\n{markdown}")
    inputs = "".join(f"% \\input{{tables/{table.name}}}\n" for table in tables)
    _write(
        folder / "methods.tex",
        f"{_LATEX_NEEDS}{latex}% Tables:\n{inputs}",
    )
    _write(folder / "references.bib", bibliography([*texts, *(table.caption for table in tables)]))
    for table in tables:
        _write(folder / "tables" / f"{table.name}.csv", table.csv())
        _write(folder / "tables" / f"{table.name}.tex", table.latex())


def coding_prompt(teacher: Teacher) -> str:
    """Return the system message of a teacher's coding prompts, without examples and response."""
    section, codebook = teacher.section, teacher.codebook
    shape = AnswerShape(
        codebook.names, section.reasoning, section.per_request > 1, codebook.multilabel, section.confidence
    )
    return build_opening_messages(codebook, (), AnswerFormat.SCHEMA, shape)[0]["content"]


def prompt_hash(teacher: Teacher) -> str:
    """Return the SHA-256 of `coding_prompt`."""
    return hashlib.sha256(coding_prompt(teacher).encode()).hexdigest()


def _write(file: Path, text: str) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        stream.write(text)
