"""The errors that end a run because no request can succeed, each with its mend."""

from edgedistill.errors import TeacherError, TeacherRefusedKey, TeacherUnknownModel, TeacherUnreachable
from edgedistill.project.sections import TeacherSection
from edgedistill.teacher.outcomes import Fatal

_PARAMETER_MENDS = {
    "seed": "Set teacher.seed to false: the votes are then told apart by the teacher's own sampling.",
    "temperature": "Set teacher.temperature, or generate.temperature where responses are written, to what the model "
    "takes, mostly 1; null for teacher.temperature sends none.",
}


def stopped(fatal: Fatal, section: TeacherSection) -> TeacherError:
    """Return the error for an outcome after which no request can succeed.

    Args:
        fatal: What is wrong.
        section: Whom the request was sent to.
    """
    where, code, variable = section.base_url, fatal.code, section.api_key_env
    match fatal.kind:
        case "key":
            mend = (
                f"Check the key in the environment variable {variable}, and that it is one for this address."
                if variable
                else "Name the environment variable that holds the key, in teacher.api_key_env."
            )
            return TeacherRefusedKey(f"the endpoint refused the key ({code})", where=where, mend=mend)
        case "quota":
            mend = f"Add credit to the account, or set {variable or 'teacher.api_key_env'} to another key."
            return TeacherRefusedKey(f"the key's account has no credit ({code})", where=where, mend=mend)
        case "model":
            what = f"the endpoint does not know the model {section.model!r} ({code})"
            return TeacherUnknownModel(what, where=where, mend="Check teacher.model.")
        case "parameter":
            mend = _PARAMETER_MENDS.get(fatal.parameter, "Leave it out of the project file, or choose another model.")
            return TeacherError(f"the endpoint refuses {fatal.parameter!r} ({code})", where=where, mend=mend)
        case _:
            what, mend = _no_connection(fatal)
            return TeacherUnreachable(what, where=where, mend=mend)


def _no_connection(fatal: Fatal) -> tuple[str, str]:
    match fatal.kind:
        case "certificate":
            return (
                f"the endpoint's certificate is not trusted ({fatal.code})",
                "Check address and clock; behind a school's proxy, set SSL_CERT_FILE to the proxy's certificate.",
            )
        case "tls":
            return (
                f"no encrypted connection comes about ({fatal.code})",
                "Check whether teacher.base_url begins with https:// where it should be http://.",
            )
        case "stream":
            return (
                "the endpoint streams its answers although it is asked not to",
                "Turn streaming off in the server or the proxy before it; nothing was kept of the streamed answer.",
            )
        case _:
            return (
                f"there are no chat completions at this address ({fatal.code})",
                "Check teacher.base_url; it mostly ends in /v1.",
            )
