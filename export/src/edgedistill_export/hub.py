"""A bundle is uploaded to a model repository on the Hugging Face Hub; what would be sent can be seen before.

``golden.json`` holds responses word for word, so a repository is made private unless somebody says otherwise.
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
from edgedistill_serve.bundle.files import MANIFEST_FILE, SIGNATURE_FILE
from edgedistill_serve.bundle.loading import Bundle


@dataclass(frozen=True, slots=True)
class PushPlan:
    """What is sent, and where to.

    Attributes:
        repo: ``OWNER/NAME`` on the Hub.
        folder: The bundle.
        files: Path in the bundle and bytes of every file that is sent; files that ``bundle.json`` does not list are
            not.
        public: Whether everybody may read the repository, where this push makes it.
        responses: How many responses ``golden.json`` holds word for word.
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
    """Say what a push would send; nothing is sent.

    Args:
        bundle: As it was loaded, so that what is sent is whole.
        repo: ``OWNER/NAME`` on the Hub.
        public: Whether everybody may read the repository.

    Raises:
        PushFailed: The repository's name cannot be one.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError:
        raise PushFailed(
            f"{repo[:100]!r} cannot be a repository's name",
            hint="Give OWNER/NAME, of letters, digits, dots and dashes.",
        ) from None
    signature = [SIGNATURE_FILE] if bundle.signature != "none" else []
    names = sorted([MANIFEST_FILE, *signature, *bundle.manifest.files])
    files = tuple((name, (bundle.folder / name).stat().st_size) for name in names)
    return PushPlan(repo, bundle.folder, files, public, len(bundle.golden.rows))


def push(plan: PushPlan, token: str | None, *, endpoint: str | None = None) -> str:
    """Upload a bundle in one commit; the repository is made where there is none.

    Args:
        plan: What to send.
        token: A token of the Hub that may write.
        endpoint: The Hub's address; that of huggingface_hub unless said otherwise.

    Returns:
        The commit's address.

    Raises:
        PushFailed: There is no token, the Hub refuses it, or it cannot be reached; nothing was committed.
    """
    if not token:
        raise PushFailed("there is no token for the Hub", hint="Put one that may write into the variable HF_TOKEN.")
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
            f"the Hub answered {status}", where=plan.repo, hint="Is the token allowed to write to this repository?"
        ) from None
    except Exception as error:  # huggingface_hub lets the errors of its HTTP client through, of requests or httpx
        raise PushFailed(
            f"the Hub cannot be reached ({type(error).__name__})", where=plan.repo, hint="Try again later."
        ) from error
    return str(commit.commit_url)
