"""Upload a bundle to a model repository on the Hugging Face Hub; a plan lists the files beforehand.

``golden.json`` can contain responses verbatim, so a new repository is private by default.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # public, though not listed as such
    disable_progress_bars,
    validate_repo_id,
)

from edgedistill_export.errors import PushFailed
from edgedistill_export.quiet import quiet
from edgedistill_export.verify.golden import responses_in
from edgedistill_serve.bundle.files import MANIFEST_FILE, SIGNATURE_FILE
from edgedistill_serve.bundle.loading import Bundle


@dataclass(frozen=True, slots=True)
class PushPlan:
    """The files of an upload, and its destination.

    Attributes:
        repo: ``OWNER/NAME`` on the Hub.
        folder: The bundle.
        files: Path in the bundle and bytes of every uploaded file; files that ``bundle.json`` does not list are left
            out.
        public: Whether a repository that the upload creates is public.
        responses: Number of learners' responses that ``golden.json`` contains verbatim.
    """

    repo: str
    folder: Path
    files: tuple[tuple[str, int], ...]
    public: bool
    responses: int

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(size for _, size in self.files)


def plan_push(bundle: Bundle, repo: str, *, public: bool = False) -> PushPlan:
    """Return the plan of an upload; nothing is sent.

    Args:
        bundle: A loaded and therefore verified bundle.
        repo: ``OWNER/NAME`` on the Hub.
        public: Whether a new repository is public.

    Raises:
        PushFailed: The repository's name is not valid.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError:
        raise PushFailed(
            f"{repo[:100]!r} is not a valid repository name",
            hint="Use OWNER/NAME with letters, digits, dots and dashes.",
        ) from None
    signature = [SIGNATURE_FILE] if bundle.signature != "none" else []
    names = sorted([MANIFEST_FILE, *signature, *bundle.manifest.files])
    files = tuple((name, (bundle.folder / name).stat().st_size) for name in names)
    return PushPlan(repo, bundle.folder, files, public, responses_in(bundle))


def push(plan: PushPlan, token: str | None, *, endpoint: str | None = None) -> str:
    """Upload a bundle in one commit; creates the repository if it does not exist.

    Args:
        plan: The files and the destination.
        token: A Hub token with write access.
        endpoint: The Hub's address; by default that of huggingface_hub.

    Returns:
        The commit's address.

    Raises:
        PushFailed: The token is missing or the Hub rejects it, or the Hub cannot be reached; nothing was committed.
    """
    if not token:
        raise PushFailed("no Hub token is set", hint="Set the variable HF_TOKEN to a token with write access.")
    api = HfApi(endpoint=endpoint, token=token)
    additions = [CommitOperationAdd(name, plan.folder / name) for name, _ in plan.files]
    disable_progress_bars()
    try:
        with quiet():
            api.create_repo(plan.repo, private=not plan.public, exist_ok=True)
            commit: Any = api.create_commit(plan.repo, additions, commit_message="Upload an EdgeDistill bundle")
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "no status")
        raise PushFailed(
            f"the Hub returned status {status}",
            where=plan.repo,
            hint="Check that the token has write access to this repository.",
        ) from None
    except Exception as error:  # huggingface_hub passes on the errors of its HTTP client, requests or httpx
        raise PushFailed(
            f"the Hub cannot be reached ({type(error).__name__})", where=plan.repo, hint="Try again later."
        ) from error
    return str(commit.commit_url)
