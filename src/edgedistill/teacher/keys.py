"""Where the teacher's key comes from."""

from collections.abc import Mapping

from edgedistill.errors import TeacherRefusedKey
from edgedistill.project.sections import TeacherSection

NO_KEY = "none"
"""What is sent to an endpoint that wants no key; the client must send something."""


def api_key(section: TeacherSection, environ: Mapping[str, str]) -> str:
    """Return the key that the environment holds.

    Args:
        section: Names the variable; None there stands for an endpoint that wants no key.
        environ: The environment variables.

    Raises:
        TeacherRefusedKey: The variable is not set, or is empty.
    """
    if section.api_key_env is None:
        return NO_KEY
    key = environ.get(section.api_key_env, "").strip()
    if not key:
        raise TeacherRefusedKey(
            f"the environment variable {section.api_key_env} holds no key",
            where="teacher.api_key_env",
            mend=f"Set it (export {section.api_key_env}=…), or write `api_key_env: null` for an endpoint that wants "
            "none.",
        )
    return key
