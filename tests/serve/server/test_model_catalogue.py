"""Models are found by name and version; a new bundle is served only if it is valid."""

import gc
import json
import logging
import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from unittest.mock import Mock

import msgspec
import pytest

from edgedistill_serve import Bundle, BundleError, Scorer, UnknownModel, WrongShape
from edgedistill_serve.scoring.session import Device, Session
from edgedistill_serve.server.model_catalogue import BundleFolders, ModelCatalogue, watch

from ... import processes


@pytest.fixture(scope="module")
def praise(bundle) -> Scorer:
    return Scorer(bundle)


@pytest.fixture(scope="module")
def answers(answers_bundle) -> Scorer:
    return Scorer(answers_bundle)


@pytest.fixture(scope="module")
def warmer(make_bundle, tmp_path_factory) -> Scorer:
    """Another version of praise."""
    files = {"README.md": b"# Another version\n"}
    return Scorer(make_bundle(tmp_path_factory.mktemp("bundles") / "warmer", temperature=2.0, files=files))


def test_the_only_model_needs_no_name(praise):
    assert ModelCatalogue((praise,)).find(None) is praise


def test_of_several_models_one_must_be_named_or_be_the_default(praise, answers):
    with pytest.raises(WrongShape, match="Name one of praise, answers"):
        ModelCatalogue((praise, answers)).find(None)
    assert ModelCatalogue((praise, answers), default="answers").find(None) is answers


def test_a_model_is_found_by_its_name_and_by_its_version(praise, warmer):
    models = ModelCatalogue((praise, warmer))
    assert models.find(None) is models.find("praise") is praise
    assert models.find(f"praise@{warmer.bundle.manifest.version}") is warmer


@pytest.mark.parametrize("name", ["other", "praise@0", "", "@", "praise@"])
def test_a_model_that_is_not_served_is_an_error_that_lists_what_is(praise, answers, name):
    with pytest.raises(UnknownModel, match="Name one of praise, answers") as caught:
        ModelCatalogue((praise, answers)).find(name)
    assert "other" not in str(caught.value)


def test_two_bundles_of_one_name_and_version_are_refused(praise):
    with pytest.raises(BundleError, match="two bundles are praise@"):
        ModelCatalogue((praise, praise))


def test_a_default_that_is_not_served_is_refused(praise):
    with pytest.raises(BundleError, match=r"name of the default model, 'other'\. Name one of praise"):
        ModelCatalogue((praise,), default="other")


def renamed(scorer: Scorer, **names: str) -> Mock:
    """Return a scorer whose bundle has another name or version."""
    bundle = replace(scorer.bundle, manifest=msgspec.structs.replace(scorer.bundle.manifest, **names))
    return Mock(bundle=bundle)


@pytest.mark.parametrize("name", ["a", "7", "Praise.v2_final-3", 100 * "a"])
def test_names_that_every_route_can_carry_are_served(praise, name):
    served = renamed(praise, name=name)
    assert ModelCatalogue((served,)).find(f"{name}@{served.bundle.manifest.version}") is served


@pytest.mark.parametrize(
    "name", ["my model", "a/b", "a@b", "..", ".a", "a%2Fb", "a?b", "a#b", "qualité", "漢", "a\n", "a:b", 101 * "a"]
)
@pytest.mark.parametrize("key", ["name", "version"])
def test_names_that_some_route_cannot_carry_are_refused_with_the_fix(praise, key, name):
    with pytest.raises(BundleError, match=rf"bundle\.json, {key}: the {key} .+ cannot stand in the path") as caught:
        ModelCatalogue((praise, renamed(praise, **{key: name})))
    assert f'Change "{key}" there: at most 100 of A to Z, a to z, 0 to 9' in str(caught.value)


def test_a_server_says_at_its_start_that_a_name_cannot_be_served(tampered):
    folder = tampered(lambda content: content.update(name="my model"))
    ended = processes.run("edgedistill-serve", "serve", str(folder), "--port", "0")
    message = (
        "error: tampered/bundle.json, name: the name 'my model' cannot stand in the path /v2/models/NAME/versions/"
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert ended.stderr.startswith(message)


def test_a_name_with_every_allowed_kind_of_character_is_found_by_every_route(start, make_bundle, tmp_path):
    name = "Praise.v2_final-3"
    version = make_bundle(tmp_path / "bundle", name=name).manifest.version
    inputs = [{"name": "response", "shape": [1], "datatype": "BYTES", "data": ["x"]}]
    with start(str(tmp_path / "bundle")) as server:
        for model in (name, f"{name}@{version}"):
            assert server.client.post("/v1/score", json={"response": "x", "model": model}).status_code == 200
            assert server.client.post("/predict", json={"inputs": "x", "model": model}).status_code == 200
            bulk = server.client.post("/v1/score/bulk", params={"model": model}, content=b'"x"')
            assert (bulk.status_code, bulk.headers["X-Model"]) == (200, f"{name}@{version}")
        for path in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{version}"):
            assert server.client.get(path).json()["name"] == name
            assert server.client.post(f"{path}/infer", json={"inputs": inputs}).status_code == 200


@pytest.fixture
def folder(make_bundle, tmp_path):
    return make_bundle(tmp_path / "served").folder


def replaced(make_bundle, folder, **given) -> str:
    """Put another version into a folder, and return it."""
    return make_bundle(folder, files={"README.md": repr(given).encode()}, **given).manifest.version


@pytest.fixture
def folders(folder) -> BundleFolders:
    folders = BundleFolders([folder])
    folders.open()
    return folders


def test_a_new_bundle_is_served(folders, folder, make_bundle):
    before = folders.catalogue.find(None)
    version = replaced(make_bundle, folder, temperature=2.0)
    swapped = []
    folders.refresh(swapped.append)
    assert swapped == [folders.catalogue]
    assert folders.catalogue.find(None).bundle.manifest.version == version
    assert folders.catalogue.find(None).score(["great job"]) != before.score(["great job"])
    (state,) = folders.statuses
    assert (state.version, state.swaps, state.failures, state.fault) == (version, 1, 0, None)


@pytest.mark.parametrize("change", [{"temperature": 5.0}, {"review": {"thresholds": {"person": 0.99}}}], ids=str)
def test_a_changed_bundle_with_the_same_version_is_served(folders, folder, change):
    before = folders.catalogue.find(None)
    content = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(content | change))
    folders.refresh(lambda _: None, changed_only=True)
    after = folders.catalogue.find(None)
    assert after.bundle.manifest != before.bundle.manifest
    assert after.bundle.manifest.version == before.bundle.manifest.version
    assert (folders.statuses[0].swaps, folders.statuses[0].fault) == (1, None)


def test_an_equal_bundle_is_not_loaded(folders):
    before = folders.catalogue.find(None)
    folders.refresh(lambda _: None)
    assert folders.catalogue.find(None) is before
    assert folders.statuses[0].swaps == 0


@pytest.mark.parametrize("damage", ["a file is changed", "the folder is gone", "the scores are others"])
def test_an_invalid_bundle_changes_nothing_and_is_reported(folders, folder, make_bundle, caplog, damage):
    before = folders.catalogue.find(None)
    if damage == "a file is changed":
        (folder / "tokenizer.json").write_text("{}")
    elif damage == "the folder is gone":
        shutil.rmtree(folder)
    else:
        make_bundle(folder, tolerance={"int8": 1e-12}, files={"onnx/model.onnx": None})
    folders.refresh(lambda _: None)
    assert folders.catalogue.find(None) is before
    (state,) = folders.statuses
    assert (state.version, state.swaps, state.failures) == (before.bundle.manifest.version, 0, 1)
    assert state.fault in caplog.text
    assert before.score(["great job"])


def test_an_invalid_bundle_is_served_after_its_repair(folders, folder, make_bundle):
    (folder / "tokenizer.json").write_text("{}")
    folders.refresh(lambda _: None)
    version = replaced(make_bundle, folder, temperature=2.0)
    folders.refresh(lambda _: None, changed_only=True)
    assert (folders.statuses[0].version, folders.statuses[0].failures, folders.statuses[0].fault) == (version, 1, None)


def test_a_model_whose_bundle_was_replaced_leaves_the_memory_without_the_collector(folder, make_bundle):
    """The server puts what it loads at its start where the collector does not look."""
    opened = []

    def remembered(model: Path, device: Device) -> Session:
        session = Session(model, device)
        opened.append(weakref.ref(session))
        return session

    folders = BundleFolders([folder], load=lambda place: Scorer(Bundle.load(place), open_graph=remembered))
    gc.disable()
    try:
        folders.open().find(None).score(["great job"])
        replaced(make_bundle, folder, temperature=2.0)
        folders.refresh(lambda _: None)
        assert [session() is None for session in opened] == [True, False]
    finally:
        gc.enable()


def test_only_the_folder_that_changed_is_loaded_again(folder, answers_bundle, make_bundle):
    folders = BundleFolders([answers_bundle.folder, folder])
    first, _ = folders.open().scorers
    version = replaced(make_bundle, folder, temperature=2.0)
    folders.refresh(lambda _: None, changed_only=True)
    assert folders.catalogue.scorers[0] is first
    assert folders.catalogue.scorers[1].bundle.manifest.version == version


def test_a_bundle_that_is_overwritten_in_its_place_does_not_disturb_the_one_that_serves(folders, folder):
    scorer = folders.catalogue.find(None)
    expected = scorer.score(["great job"])
    for file in folder.rglob("*"):
        if file.is_file():
            file.write_bytes(b"0" * file.stat().st_size)
    scorer.score_cache.clear()
    assert scorer.score(["great job"]) == expected
    assert scorer.score(["so smart"])


def test_a_folder_that_somebody_writes_into_is_left_alone(folders, folder):
    assert not folders.settled(lambda: (folder / "README.md").write_text("half of"))
    assert folders.settled(lambda: None)


def test_a_new_bundle_in_a_watched_folder_is_served(folders, folder, make_bundle):
    stop, swapped, found = Event(), Event(), []

    def swap(models):
        found.append(models)
        swapped.set()

    watching = Thread(target=watch, args=(folders, swap, stop), kwargs={"seconds": 0.02})
    watching.start()
    try:
        version = replaced(make_bundle, folder, temperature=2.0)
        assert swapped.wait(30)
    finally:
        stop.set()
        watching.join(30)
    assert found[-1].find(None).bundle.manifest.version == version
    assert not watching.is_alive()


def test_an_invalid_bundle_in_a_watched_folder_is_reported_once(folders, folder, caplog):
    (folder / "tokenizer.json").write_text("{}")
    stop, looks = Event(), []

    class Stop:
        """Counts the looks at the folder."""

        def wait(self, seconds):
            """Stop after some looks."""
            looks.append(seconds)
            return len(looks) > 20

        is_set = stop.is_set

    with caplog.at_level(logging.ERROR):
        watch(folders, lambda _: None, Stop())
    assert caplog.text.count("new bundle cannot be served") == 1
    assert folders.statuses[0].failures == 1
