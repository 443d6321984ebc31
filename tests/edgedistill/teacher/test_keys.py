import pytest

from edgedistill.errors import TeacherRefusedKey
from edgedistill.teacher import read_api_key

from .codings import section


def test_the_key_comes_from_the_variable_that_the_project_names() -> None:
    assert read_api_key(section("http://x/v1", api_key_env="MY_KEY"), {"MY_KEY": "secret\n"}) == "secret"


@pytest.mark.parametrize("environ", [{}, {"MY_KEY": " "}, {"OPENAI_API_KEY": "another"}])
def test_a_missing_key_names_the_variable(environ: dict[str, str]) -> None:
    with pytest.raises(TeacherRefusedKey, match=r"the environment variable MY_KEY is not set or empty.*export MY_KEY="):
        read_api_key(section("http://x/v1", api_key_env="MY_KEY"), environ)


def test_an_endpoint_may_need_no_key() -> None:
    assert read_api_key(section("http://x/v1", api_key_env=None), {}) == "none"
