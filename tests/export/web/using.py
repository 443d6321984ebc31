"""What a person does on the page."""

from pathlib import Path

TEXT = "you worked hard on this because the answer is great"
SCORED = "document.querySelector('#verdict .label')"
COLUMNS = "!document.getElementById('columns').hidden || document.getElementById('table-problem').textContent"
GRADED = "!document.getElementById('graded').hidden"


def score(page, text: str) -> None:
    page.run("document.getElementById('response').value = arguments[0]", text)
    page.click("#score")
    page.until(f"{SCORED} && !document.getElementById('form').ariaBusy")


def choose(page, path: Path) -> None:
    page.type("#file", str(path))
    page.until(COLUMNS)


def shown(share: float) -> str:
    return f"{100 * share:.1f} %"
