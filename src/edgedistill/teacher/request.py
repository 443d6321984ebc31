"""One request to a teacher, and the key under which its answer is kept."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEY_VERSION = 1
"""Rises when the content of a key changes; answers under an older version are then asked for again."""


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """Everything that the answer depends on, and nothing else.

    Attributes:
        base_url: The endpoint's address, without a slash at its end.
        model: The model's name at that endpoint.
        messages: The chat messages.
        response_format: The wanted form of the answer, or None.
        sampling: Every sampling parameter by its name on the wire: ``temperature``, ``seed`` and the like.
        max_output_tokens: The token limit of the answer.
        vote: Which of the votes on the same messages this is, from 0.
    """

    base_url: str
    model: str
    messages: tuple[Mapping[str, str], ...]
    response_format: Mapping[str, Any] | None
    sampling: Mapping[str, float]
    max_output_tokens: int
    vote: int

    def content(self) -> dict[str, Any]:
        """Return what the key is made from, as JSON values."""
        return {
            "key_version": KEY_VERSION,
            "base_url": self.base_url,
            "model": self.model,
            "messages": [dict(message) for message in self.messages],
            "response_format": self.response_format,
            "sampling": dict(self.sampling),
            "max_output_tokens": self.max_output_tokens,
            "vote": self.vote,
        }

    def key(self) -> str:
        """Return the key: 64 hexadecimal digits."""
        return key_of(self.content())


def is_request(content: Mapping[str, Any]) -> bool:
    """Whether this has what is read of every request's content: messages with text, the vote, address and model."""
    messages = content.get("messages")
    return (
        isinstance(messages, list)
        and len(messages) > 0
        and all(isinstance(message, dict) and isinstance(message.get("content"), str) for message in messages)
        and isinstance(content.get("vote"), int)
        and all(isinstance(content.get(name), str) for name in ("base_url", "model"))
    )


def key_of(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the content's canonical JSON: sorted names, no white space, ASCII only."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
