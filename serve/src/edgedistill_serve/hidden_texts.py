"""Structs that contain texts of learners and do not show them."""

import msgspec


class HiddenTexts(msgspec.Struct, frozen=True):
    """A struct with texts of learners; its `repr` shows its type only, so that logs and tracebacks never quote them."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"
