"""The coding page in a real Chromium: keyboard, screen reader, tablet, two coders, a killed program, a full disk."""

import random
import resource
from concurrent.futures import ThreadPoolExecutor

import pytest

from ...serve.server.page.test_access import CONTRASTS
from .conftest import at, enter, visit
from .projects import open_session, read_csv, write_csv, write_project

KEYS = {"process": "1", "outcome": "2", "person": "3"}


def label_of(text: str) -> str:
    """How the coders of these tests code a response: by its number."""
    return list(KEYS)[int(text.strip(".").split()[-1]) % 3]


SHOWN = """
const find = (id) => document.getElementById(id);
const shown = () => ({
  id: find("inputs").dataset.id,
  text: find("text").textContent,
  ends: find("progress").value === find("progress").max || !find("trouble").hidden,
  isSaved: find("trouble").hidden,
});
return new Promise((resolve) => {
  const look = () => {
    const found = shown();
    if (found.ends || found.id !== arguments[0]) resolve(found);
    else setTimeout(look, 2);
  };
  look();
});
"""
"""Waits until the page shows another row than the one with this id, and returns what it shows."""


def code_rows(browser, before_row=lambda number: None) -> set[str]:
    """Code open rows by keyboard as long as the page takes them; the ids that it has shown as saved."""
    saved: set[str] = set()
    shown = browser.run(SHOWN, None)
    while not shown["ends"]:
        before_row(len(saved))
        ident = shown["id"]
        browser.keys(KEYS[label_of(shown["text"])])
        shown = browser.run(SHOWN, ident)
        if shown["isSaved"]:
            saved.add(ident)
    return saved


def code_at_once(people, before_row=lambda number: None) -> dict[str, set[str]]:
    """Let two coders code at the same time; `before_row` is called for the first one."""
    with ThreadPoolExecutor(2) as threads:
        first, second = people
        jobs = {
            first: threads.submit(code_rows, people[first], before_row),
            second: threads.submit(code_rows, people[second]),
        }
        return {coder: job.result() for coder, job in jobs.items()}


def test_a_hundred_rows_coded_by_two_at_once_and_killed_at_a_random_row_lose_nothing(
    serve, browser, second_browser, tmp_path
):
    page = serve(write_project(tmp_path, 100), "--coders", "anna,ben", "--double-share", "0.1")
    people = {"anna": visit(browser, page.link, "anna"), "ben": visit(second_browser, page.link, "ben")}
    last = random.Random().randrange(5, 45)
    saved = code_at_once(people, lambda number: page.process.kill() if number == last else None)
    assert page.process.wait() < 0
    again = serve(tmp_path / "project.yaml", "--port", page.port)
    for coder, person in people.items():
        assert person.text("#problem").startswith("Not saved"), f"killed at row {last}"
        rows = again.post("work", coder=coder).json()["rows"]
        assert saved[coder] <= {row["id"] for row in rows if row["code"]}, f"killed at row {last}"
        person.open(again.link)  # the page with another fragment: it is not loaded again, and saves the open code
        person.until("document.getElementById('trouble').hidden")
    code_at_once(people)
    printed, _ = again.end()
    assert "100 of 100 rows have a label; 10 were coded by two, 0 of them differently" in printed
    rows = read_csv(tmp_path / "human.csv")
    assert len(rows) == 100
    for row in rows:
        assert {row["label"]} == {row[coder] for coder in people} - {""} == {label_of(row["response"])}


def test_a_full_disk_is_said_and_the_code_is_saved_once_there_is_space(serve, browser, tmp_path):
    file = write_project(tmp_path, 4)
    page = serve(file, "--coders", "anna")
    visit(browser, page.link, "anna")
    browser.keys("1")
    at(browser, 2)
    journal = tmp_path / "coding/human.csv/journal.jsonl"
    size = journal.stat().st_size
    # As with a full disk, a part of the line is written before the write fails.
    resource.prlimit(page.process.pid, resource.RLIMIT_FSIZE, (size + 20, resource.RLIM_INFINITY))
    browser.keys("223")
    browser.until("!document.getElementById('trouble').hidden")
    assert browser.text("#problem").startswith("Not saved (outcome): the disk is full. Free space on the disk")
    assert browser.role_and_name("#problem")[0] == "alert"
    assert browser.text("#saved") == "Not saved"
    assert browser.run("return document.activeElement.id") == "retry"
    assert browser.run("return document.getElementById('progress').value") == 1
    assert journal.stat().st_size == size
    browser.press("enter")
    browser.until("document.getElementById('problem').textContent.startsWith('Still not saved (outcome)')")
    resource.prlimit(page.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    browser.press("enter")
    at(browser, 3)
    assert browser.run("return document.getElementById('trouble').hidden")
    page.end()
    with open_session(file) as session:
        assert sorted(session.codings.codes_by_coder(session.ids)["anna"].values()) == ["outcome", "process"]


def test_two_tabs_of_one_coder_do_not_overwrite_each_other(serve, browser, second_browser, tmp_path):
    page = serve(write_project(tmp_path, 3), "--coders", "anna")
    one, other = (visit(each, page.link, "anna") for each in (browser, second_browser))
    one.keys("1")
    at(one, 2)
    other.keys("2")
    other.until("!document.getElementById('trouble').hidden")
    assert other.text("#problem") == "this row was changed in another tab; nothing was saved."
    assert other.text("#row-state").startswith("Coded: process.")
    other.click("#dismiss")
    other.keys("2")
    at(other, 2)
    assert sorted(row["code"] for row in page.post("work", coder="anna").json()["rows"]) == ["", "", "outcome"]


def test_everything_is_done_by_keyboard_alone(serve, browser, tmp_path):
    page = serve(write_project(tmp_path, 3))
    visit(browser, page.link)
    assert browser.run("return document.activeElement.id") == "enter-heading"
    browser.press("tab")
    browser.keys("anna")
    browser.press("enter")
    at(browser, 1)
    assert browser.run("return document.activeElement.id") == "row-heading"
    browser.keys("n")
    assert browser.run("return document.activeElement.id") == "note"
    browser.keys("12 sfu")  # text, and no codes
    browser.until("document.getElementById('saved').textContent === 'Note saved'")
    browser.keys("\ue00c")  # Escape
    browser.keys("f")
    browser.until("document.getElementById('flag').getAttribute('aria-pressed') === 'true'")
    browser.keys("s")
    at(browser, 2)
    browser.press("down")
    browser.press("down")
    browser.press("enter")  # the second label
    at(browser, 3)
    browser.keys("u")
    at(browser, 2)
    browser.keys("33")
    at(browser, 1)  # the skipped row is the last one
    browser.keys("1")
    browser.until("document.getElementById('progress').value === 3")
    assert browser.text("#row-state").endswith("All your rows are coded. You may look through them; then adjudicate.")
    rows = page.post("work", coder="anna").json()["rows"]
    assert [row["code"] for row in rows] == ["process", "person", "person"]
    assert (rows[0]["note"], rows[0]["flagged"]) == ("12 sfu", True)
    assert browser.complaints() == []


def test_a_key_that_is_held_down_codes_one_row_and_shortcuts_can_be_turned_off(serve, browser, tmp_path):
    page = serve(write_project(tmp_path, 5), "--coders", "anna")
    visit(browser, page.link, "anna")
    held = {"key": "1", "code": "Digit1", "text": "1"}
    browser.chromium("Input.dispatchKeyEvent", type="keyDown", **held)
    for _ in range(5):
        browser.chromium("Input.dispatchKeyEvent", type="keyDown", autoRepeat=True, **held)
    browser.chromium("Input.dispatchKeyEvent", type="keyUp", **held)
    at(browser, 2)
    browser.click("#help summary")
    browser.click("#keys")
    browser.run("document.getElementById('row-heading').focus()")
    browser.keys("1u")
    assert browser.run("return document.getElementById('progress').value") == 1
    assert sum(bool(row["code"]) for row in page.post("work", coder="anna").json()["rows"]) == 1


def test_a_screen_reader_finds_names_and_states_and_hears_what_is_saved(serve, browser, tmp_path):
    file = write_project(tmp_path, 2, more="  inputs: [question, response]")
    write_csv(tmp_path / "human.csv", [["id", "question", "response", "label"], ["r0", "Why?", "So it is 0.", ""]])
    page = serve(file, "--coders", "anna")
    visit(browser, page.link, "anna")
    at(browser, 1)
    assert browser.role_and_name("#work") == ("region", "Row 1 of 1")
    assert browser.role_and_name("#labels") == ("group", "Label")
    assert browser.role_and_name("#labels button:nth-child(2)") == ("button", "outcome")
    assert browser.role_and_name("#note") == ("textbox", "Note on this response")
    assert browser.role_and_name("#progress") == ("progressbar", "Coded rows")
    assert browser.role_and_name("#status")[0] == "status"
    assert browser.role_and_name("#memo-label")[1] == "Memo: a decision that all coders should know"
    assert browser.text("#inputs").split("\n") == ["Question", "Why?", "Response", "So it is 0."]
    browser.keys("2")
    browser.until("document.getElementById('status').textContent.startsWith('Saved: outcome.')")
    pressed = browser.run("return [...document.querySelectorAll('#labels button')].map(each => each.ariaPressed)")
    assert pressed == ["false", "true", "false"]


def test_on_a_tablet_and_a_phone_nothing_is_wider_than_the_screen_and_targets_are_large(serve, browser, tmp_path):
    file = write_project(tmp_path, 1)
    table = (tmp_path / "human.csv").read_text()
    (tmp_path / "human.csv").write_text(table.replace("You tried", "x" * 300))
    page = serve(file, "--coders", "anna")
    visit(browser, page.link, "anna")
    at(browser, 1)
    for width in (1280, 820, 768, 360, 320):
        browser.resize(width, 740)
        assert browser.run("return document.documentElement.scrollWidth") <= width
        sizes = browser.run(
            "return [...document.querySelectorAll('button')].map(each => each.offsetHeight).filter(Boolean)"
        )
        assert min(sizes) >= 44
    browser.resize(820, 1180)
    places = "document.getElementById(arguments[0]).getBoundingClientRect()"
    assert browser.run(f"return {places}.top", "codebook") == browser.run(f"return {places}.top", "work")
    browser.click("#labels button:nth-child(3)")
    browser.until("document.getElementById('progress').value === 1")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(serve, browser, tmp_path, scheme):
    page = serve(write_project(tmp_path, 2), "--coders", "anna")
    visit(browser, page.link, "anna")
    at(browser, 1)
    browser.prefer(color_scheme=scheme)
    browser.keys("f1")
    at(browser, 2)
    browser.press("shift", "tab")
    browser.run("document.getElementById('back').click()")
    at(browser, 1)
    assert [each for each in browser.run(CONTRASTS) if each[0] < 4.5] == []
    browser.prefer()


def test_several_labels_are_selected_and_confirmed(serve, browser, tmp_path):
    page = serve(write_project(tmp_path, 2, kind="multilabel"), "--coders", "anna")
    visit(browser, page.link, "anna")
    browser.keys("31")
    browser.until("document.getElementById('status').textContent === 'Selected: process, person'")
    assert browser.text("#saved") == "Saved, not confirmed"
    browser.open("about:blank")
    browser.open(page.link)  # another day
    at(browser, 1)
    assert browser.run("return document.querySelectorAll('#labels [aria-pressed=true]').length") == 2
    browser.press("enter")
    at(browser, 2)
    browser.keys("0")
    browser.press("enter")
    browser.until("document.getElementById('progress').value === 2")
    assert [row["code"] for row in page.post("work", coder="anna").json()["rows"]] == ["process;person", "none"]


def test_agreement_adjudication_and_memos(serve, browser, tmp_path):
    file = write_project(tmp_path, 4)
    with open_session(file, coders=("anna", "ben"), double_share=1) as session:
        for coder in ("anna", "ben"):
            for row in session.rows(coder):
                session.code(coder, row["id"], "person" if (coder, row["id"]) == ("ben", "r2") else "process", 0)
    page = serve(file, "--kappa-after", "4")
    visit(browser, page.link, "anna")
    browser.click("#to-agreement")
    browser.until("!document.getElementById('agreement').hidden")
    assert browser.text("#pair-rows").startswith("anna, ben 4 0.00 (")
    assert "anna has used only one label so far" in browser.text("#agreement-messages")
    browser.click("#memo-text")
    browser.keys("Luck counts.")
    browser.click("#memo button")
    browser.until("document.querySelector('#definitions .memo')?.textContent.startsWith('Luck counts.anna, 20')")
    browser.click("#to-adjudicate")
    browser.until(
        "document.getElementById('gate-text').textContent.startsWith('The finished rows with different codes')"
    )
    browser.click("#reveal")
    browser.until("!document.getElementById('dispute').hidden")
    assert browser.text("#dispute-codes").split("\n") == ["anna process", "ben person"]
    browser.click("#reason")
    browser.keys("He names her.")
    browser.keys("\ue00c3")
    browser.until("document.getElementById('dispute-state').textContent.startsWith('Final label: person, by anna.')")
    browser.click("#reason")
    browser.keys(" Twice.")
    browser.click("#dispute-heading")
    browser.until("document.getElementById('status').textContent === 'The reason is saved.'")
    browser.click("#write")
    browser.until("document.getElementById('status').textContent.startsWith('The table is written')")
    assert {row["id"]: row["label"] for row in read_csv(tmp_path / "human.csv")}["r2"] == "person"
    reasons = {row["reason"] for row in read_csv(tmp_path / "coding/human.csv/codings.csv") if row["id"] == "r2"}
    assert reasons == {"He names her. Twice."}
    assert browser.complaints() == []


def test_a_page_of_a_program_that_was_started_again_asks_for_the_new_link(serve, browser, tmp_path):
    file = write_project(tmp_path, 2)
    page = serve(file, "--coders", "anna")
    visit(browser, page.link, "anna")
    page.end()
    again = serve(file, "--port", page.port)
    browser.keys("1")
    browser.until("!document.getElementById('trouble').hidden")
    assert "Open the link that `edgedistill code` printed when it was started last" in browser.text("#problem")
    browser.open(again.link)
    at(browser, 2)
    assert sum(bool(row["code"]) for row in again.post("work", coder="anna").json()["rows"]) == 1


def test_coders_join_and_hand_over_on_the_page(serve, browser, tmp_path):
    page = serve(write_project(tmp_path, 6), "--double-share", "0")
    visit(browser, page.link)
    browser.click("#name")
    browser.keys("anna")
    browser.click("#add-coder")
    at(browser, 1)
    browser.click("#to-enter")
    browser.until("!document.getElementById('enter').hidden")
    browser.click("#name")
    browser.run("document.getElementById('name').value = ''")
    browser.keys("id")
    browser.click("#add-coder")
    browser.until("!document.getElementById('trouble').hidden")
    assert "there is already a coder or a column 'id'" in browser.text("#problem")
    browser.click("#dismiss")
    browser.run("document.getElementById('name').value = 'ben'; document.getElementById('add-coder').click()")
    browser.until("document.getElementById('row-heading').textContent === 'Row 1 of 3'")
    browser.click("#to-enter")
    browser.until("!document.getElementById('enter').hidden")
    browser.click("#names li:first-child button:last-child")
    browser.until("document.querySelectorAll('#names li').length === 1")
    enter(browser, "ben")
    browser.until("document.getElementById('row-heading').textContent === 'Row 1 of 6'")
