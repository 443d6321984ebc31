"""A number that is not finite, or absurd, is refused wherever a bundle, a setting or an option has one."""

import math

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_serve import DataError, Scorer, bounds
from edgedistill_serve.bounds import Bounds
from edgedistill_serve.cli.main import app
from edgedistill_serve.client import Retries, Timeouts
from edgedistill_serve.server.limits import LIMIT_BOUNDS, Limits
from edgedistill_serve.task.label_decoding import LabelDecoder
from edgedistill_serve.task.task import Label, Task

ALL = {name: value for name, value in vars(bounds).items() if isinstance(value, Bounds)}
NOT_FINITE = (math.nan, math.inf, -math.inf)
TASK = Task("nominal", (Label("a"), Label("b"), Label("c")), ("response",))
TOPICS = Task("multilabel", TASK.labels, ("response",))
BAD_TEMPERATURES = (*NOT_FINITE, 0, -1, 1e-308, 1e-310, 1e300)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("value", [*NOT_FINITE, None, "1", True, [1], 1e400, -1e400])
def test_no_bounds_contain_what_is_not_a_finite_number(name, value):
    assert value not in ALL[name]
    with pytest.raises(DataError, match=r"field: the value .* is not "):
        ALL[name].check(value, "field")


@pytest.mark.parametrize("name", ALL)
def test_both_ends_belong_to_bounds_unless_they_are_open(name):
    each = ALL[name]
    assert (each.low in each) is (each.high in each) is not each.open
    assert math.nextafter(each.low, -math.inf) not in each
    assert math.nextafter(each.high, math.inf) not in each


@pytest.mark.parametrize("temperature", BAD_TEMPERATURES)
@pytest.mark.parametrize("task", [TASK, TOPICS])
def test_a_decoder_refuses_an_absurd_temperature(task, temperature):
    thresholds = (0.5,) * 3 if task is TOPICS else ()
    with pytest.raises(DataError, match="temperature"):
        LabelDecoder(task, temperature, thresholds)


@pytest.mark.parametrize("threshold", [*NOT_FINITE, 0, 1, -0.1, 2])
def test_a_decoder_refuses_an_absurd_threshold(threshold):
    with pytest.raises(DataError, match=r"thresholds\.b"):
        LabelDecoder(TOPICS, 1.0, (0.5, threshold, 0.5))


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3),
    st.floats(bounds.TEMPERATURE.low, bounds.TEMPERATURE.high),
)
def test_within_the_bounds_every_probability_is_finite(logits, temperature):
    for decoder in (LabelDecoder(TASK, temperature), LabelDecoder(TOPICS, temperature, (0.5,) * 3)):
        found = decoder.probabilities(np.array(logits))
        assert np.isfinite(found).all()
        assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("field", LIMIT_BOUNDS)
@pytest.mark.parametrize("value", [*NOT_FINITE, -1, 1e30, "10", None])
def test_every_limit_of_the_server_refuses_an_absurd_value_and_names_it(field, value):
    with pytest.raises(DataError, match=f"^{field}: "):
        Limits(**{field: value})


@pytest.mark.parametrize("field", [field for field in LIMIT_BOUNDS if field.endswith("_seconds")])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "NaN", "0", "-5", "1e9"])
def test_every_time_limit_of_the_command_refuses_an_absurd_value_and_names_its_option(tmp_path, field, value):
    option = f"--{field.replace('_', '-')}"
    ended = CliRunner().invoke(app, ["serve", str(tmp_path), option, value])
    assert ended.exit_code == 2
    assert f"Invalid value for '{option}'" in ended.output


@pytest.mark.parametrize("field", ["threads", "score_cache"])
@pytest.mark.parametrize("value", [*NOT_FINITE, -1, True, 1.5, "1", 10**30])
def test_the_settings_of_a_scorer_refuse_absurd_values(bundle, field, value):
    with pytest.raises(DataError, match=f"^Scorer.{field}: "):
        Scorer(bundle, **{field: value})


@pytest.mark.parametrize("value", [*NOT_FINITE, -1.0, 1e30])
@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda value: Timeouts(connect=value), "timeouts.connect"),
        (lambda value: Timeouts(answer=value), "timeouts.answer"),
        (lambda value: Retries(tries=value), "retries.tries"),
        (lambda value: Retries(first_wait=value), "retries.first_wait"),
        (lambda value: Retries(longest_wait=value), "retries.longest_wait"),
    ],
)
def test_the_settings_of_a_client_refuse_absurd_values(make, field, value):
    with pytest.raises(DataError, match=f"^{field}: "):
        make(value)
