"""Presets: epochs and learning rate from the number of rows and the backbone."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.project.student import SearchSection, StudentSection
from edgedistill.student.presets import SCHEDULES, complete_search, learning_rate


@pytest.fixture
def backbone(tmp_path):
    """A folder with the config of a model of a width."""

    def write(width=384, model_type="bert", name="hidden_size"):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, name: width}))
        return tmp_path

    return write


def search_of(section, rows, folder):
    search = complete_search(section, rows, folder).search
    return search.learning_rate, search.batch_size, search.epochs


@given(st.integers(1, 100_000), st.integers(1, 64), st.sampled_from(sorted(SCHEDULES)))
def test_more_rows_never_train_for_more_epochs_nor_for_fewer_steps_within_the_limits(rows, batch_size, preset):
    schedule = SCHEDULES[preset]
    epochs, more = (schedule.epochs(count, batch_size) for count in (rows, rows + 1))
    assert schedule.fewest <= more <= epochs <= schedule.most


@given(st.integers(1, 100_000), st.integers(1, 64))
def test_a_longer_preset_trains_longer(rows, batch_size):
    quick, standard, thorough = (SCHEDULES[name].epochs(rows, batch_size) for name in ("quick", "standard", "thorough"))
    assert quick < standard < thorough


def test_the_learning_rate_halves_where_the_backbone_is_twice_as_wide(backbone):
    assert search_of(StudentSection(), 250, backbone(384))[0] == (1e-4,)
    assert search_of(StudentSection(), 250, backbone(768))[0] == (5e-5,)
    assert learning_rate(1024) == 3.8e-5


@pytest.mark.parametrize(("kind", "name"), [("distilbert", "dim"), ("xlnet", "d_model"), ("gpt2", "n_embd")])
def test_the_width_is_read_under_the_name_of_each_family(backbone, kind, name):
    assert search_of(StudentSection(), 250, backbone(768, kind, name))[0] == (5e-5,)


def test_adapters_have_the_same_learning_rate_on_every_backbone(backbone):
    assert search_of(StudentSection(peft="lora"), 250, backbone(4096))[0] == (1e-4,)


def test_what_the_search_gives_takes_precedence(backbone):
    folder = backbone()
    preset = search_of(StudentSection(), 250, folder)
    assert search_of(StudentSection(search=SearchSection(epochs=(3,))), 250, folder) == (preset[0], (16,), (3,))
    found = search_of(StudentSection(search=SearchSection(learning_rate=(2e-5, 3e-5))), 250, folder)
    assert found == ((2e-5, 3e-5), (16,), preset[2])
    whole = StudentSection(search=SearchSection(learning_rate=(2e-5,), epochs=(1,)))
    assert complete_search(whole, 250, folder) is whole


def test_epochs_follow_from_the_largest_batch_size(backbone):
    small, large = (
        search_of(StudentSection(search=SearchSection(batch_size=sizes)), 640, backbone())[2]
        for sizes in ((8, 16), (8, 32))
    )
    assert large[0] > small[0]


def test_a_preset_beside_a_complete_search_is_refused():
    with pytest.raises(ValueError, match="preset decides nothing"):
        StudentSection(preset="quick", search=SearchSection(learning_rate=(2e-5,), epochs=(1,)))
    with pytest.raises(ValueError, match="remove preset"):
        StudentSection(preset="quick", kind="frozen")
