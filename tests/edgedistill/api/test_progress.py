"""Progress is shown where somebody can see it."""

import sys

import nbformat
from nbclient import NotebookClient

from edgedistill.progress import progress_bars

SHOWN = """
from edgedistill.progress import progress_bars

with progress_bars() as on_progress:
    for done in range(4):
        on_progress("label: <gpt> codes", done, 3)
        on_progress("fit", done, 3)
"""


def test_a_notebook_shows_one_output_with_a_bar_for_each_piece_of_work():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SHOWN)])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    shown = output["data"]["text/html"]
    assert "label: &lt;gpt&gt; codes <progress value='3' max='3'></progress> 3/3" in shown
    assert "fit <progress value='3' max='3'></progress> 3/3" in shown


def test_where_nobody_looks_nothing_is_shown(capsys):
    for quiet in (False, True):
        with progress_bars(quiet=quiet) as on_progress:
            on_progress("fit", 1, 2)
    assert not sys.stderr.isatty()
    assert "".join(capsys.readouterr()) == ""
