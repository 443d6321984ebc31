import pytest

from edgedistill.errors import TeacherRefusedKey
from edgedistill.project.teacher import TeacherSection
from edgedistill.teacher import read_api_key
from edgedistill.teacher.endpoint import build_teacher_error
from edgedistill.teacher.replies import Fatal

from .codings import section


def test_the_key_comes_from_the_variable_that_the_project_names() -> None:
    assert read_api_key(section("http://x/v1", api_key_env="MY_KEY"), {"MY_KEY": "secret\n"}) == "secret"


@pytest.mark.parametrize("environ", [{}, {"MY_KEY": " "}, {"OPENAI_API_KEY": "another"}])
def test_a_missing_key_names_the_variable(environ: dict[str, str]) -> None:
    with pytest.raises(TeacherRefusedKey, match=r"the environment variable MY_KEY is not set or empty.*export MY_KEY="):
        read_api_key(section("http://x/v1", api_key_env="MY_KEY"), environ)


def test_an_endpoint_may_need_no_key() -> None:
    assert read_api_key(section("http://x/v1", api_key_env=None), {}) == "none"


LOOPBACK = ["http://localhost:11434/v1", "http://127.0.0.1:8000/v1", "http://127.9.9.9/v1", "http://[::1]:1/v1"]
OTHERS = ["http://localhost.example/v1", "http://127.0.0.1.example/v1", "http://10.0.0.1/v1", "http://gpu-box:8000/v1"]


@pytest.mark.parametrize("address", LOOPBACK)
def test_this_machine_gets_a_key_only_if_its_variable_is_named(address: str) -> None:
    unnamed = TeacherSection(base_url=address, model="m")
    assert read_api_key(unnamed, {}) == read_api_key(unnamed, {"OPENAI_API_KEY": "sk-openai"}) == "none"
    named = TeacherSection(base_url=address, model="m", api_key_env="OPENAI_API_KEY")
    assert read_api_key(named, {"OPENAI_API_KEY": "sk-openai"}) == "sk-openai"
    with pytest.raises(TeacherRefusedKey, match="OPENAI_API_KEY is not set"):
        read_api_key(named, {})
    refused = build_teacher_error(Fatal("key", "HTTP 401"), unnamed)
    assert "Set teacher.api_key_env" in str(refused)
    assert "OPENAI_API_KEY" not in str(refused)


@pytest.mark.parametrize("address", OTHERS)
def test_another_machine_needs_a_decision_about_its_key(address: str) -> None:
    with pytest.raises(TeacherRefusedKey, match="no key is named"):
        read_api_key(TeacherSection(base_url=address, model="m"), {"OPENAI_API_KEY": "sk-openai"})
