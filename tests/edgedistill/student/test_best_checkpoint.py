"""The checkpoint of the best student so far."""

from dataclasses import replace

import pytest

from edgedistill.errors import SearchInterrupted
from edgedistill.student import Epoch
from edgedistill.student.checkpoints import BestCheckpoint, copy_files


class Model:
    """Writes what a checkpoint is made of."""

    def __init__(self, mark="weights"):
        self.mark = mark

    def save_pretrained(self, folder, **_):
        """As transformers' models do."""
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_text(self.mark)


def epoch(number, macro_f1, loss=1.0):
    return Epoch(epoch=number, loss=loss, accuracy=macro_f1, macro_f1=macro_f1, seconds=0.0)


def weights(kept):
    return (kept.checkpoint / "model.safetensors").read_text()


def test_there_is_no_checkpoint_at_first(tmp_path):
    kept = BestCheckpoint(tmp_path / "none")
    assert (kept.selection_key, kept.checkpoint, kept.is_at_least((0.0, 0.0))) == (None, None, False)


def test_a_checkpoint_is_read_by_another_process(tmp_path):
    BestCheckpoint(tmp_path).write(epoch(1, 0.6), Model("first"))
    again = BestCheckpoint(tmp_path)
    assert again.selection_key == (0.6, -1.0)
    assert weights(again) == "first"


def test_of_equal_checkpoints_the_first_is_kept(tmp_path):
    kept = BestCheckpoint(tmp_path)
    kept.write(epoch(1, 0.6), Model())
    assert kept.is_at_least((0.6, -1.0))
    assert not kept.is_at_least((0.6, -0.9))


def test_a_better_checkpoint_replaces_the_previous_one(tmp_path):
    kept = BestCheckpoint(tmp_path)
    for each in (epoch(1, 0.6), epoch(2, 0.7)):
        kept.write(each, Model(f"epoch {each.epoch}"))
    assert weights(kept) == "epoch 2"
    assert len(list(tmp_path.glob("student-*"))) == 1


def test_a_search_adopts_a_better_trial_and_ignores_a_worse_one(tmp_path):
    search, better, worse = (
        BestCheckpoint(tmp_path),
        BestCheckpoint(tmp_path / "better"),
        BestCheckpoint(tmp_path / "worse"),
    )
    better.write(epoch(1, 0.6), Model("better"))
    worse.write(epoch(1, 0.5), Model("worse"))
    for trial in (better, worse):
        search.adopt(trial)
    assert weights(search) == "better"
    assert worse.checkpoint


def test_a_pointer_to_a_deleted_checkpoint_is_ignored(tmp_path):
    kept = BestCheckpoint(tmp_path)
    kept.write(epoch(1, 0.6), Model())
    (kept.checkpoint / "model.safetensors").unlink()
    assert kept.checkpoint is None


def test_a_pointer_outside_its_folder_is_ignored(tmp_path):
    outside, inside = BestCheckpoint(tmp_path / "outside"), tmp_path / "inside"
    outside.write(epoch(1, 0.6), Model())
    inside.mkdir()
    (inside / "best.json").write_text(f'{{"merit": [1.0, 0.0], "folder": "../outside/{outside.checkpoint.name}"}}')
    assert BestCheckpoint(inside).checkpoint is None


def test_the_error_names_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SearchInterrupted, match=r"file: the student cannot be written .* Free disk space"):
        BestCheckpoint(tmp_path / "file").write(epoch(1, 0.6), Model())


def test_a_copy_has_the_same_bytes(tmp_path):
    kept = BestCheckpoint(tmp_path / "kept")
    kept.write(epoch(1, 0.6), Model("bytes"))
    (tmp_path / "copy").mkdir()
    copy_files(kept.checkpoint, tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["config.json", "model.safetensors"]
    assert (tmp_path / "copy" / "model.safetensors").read_text() == "bytes"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("bad", [{"macro_f1": float("nan")}, {"macro_f1": 0.0, "loss": float("nan")}])
def test_an_epoch_whose_figures_are_not_numbers_is_never_the_best(order, bad, tmp_path):
    epochs = [epoch(1, 0.1), replace(epoch(2, 0.1), **bad)]
    assert max((epochs[place] for place in order), key=lambda each: each.selection_key) is epochs[0]
    kept = BestCheckpoint(tmp_path)
    for place in order:
        if not kept.is_at_least(epochs[place].selection_key):
            kept.write(epochs[place], Model(str(place)))
    assert weights(kept) == "0"
