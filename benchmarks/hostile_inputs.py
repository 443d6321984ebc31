"""Hostile inputs of a given size, for `benchmarks/serve_hostile.py` and the tests of costs.

BODIES    bodies of requests, by endpoint and size
BULK      bodies of bulk requests
STREAMS   complete contents of a connection: heads, trailers, chunks, and pipelined requests
"""

import json
from collections.abc import Callable

ENDPOINTS = ("/v1/score", "/v1/explain", "/predict", "/v2/models/praise/infer", "/v1/score/bulk")
_HEAD = b"Host: localhost\r\nContent-Type: application/json\r\n"


def request(path: str, body: bytes) -> bytes:
    """Return a request with its body."""
    return b"POST %b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (path.encode(), _HEAD, len(body), body)


def _repeat(part: str, size: int) -> str:
    return (part * (size // len(part) + 1))[:size]


def _with_text(path: str, text: str) -> bytes:
    if path == "/predict":
        return json.dumps({"inputs": text}, ensure_ascii=False).encode()
    if path.startswith("/v2"):
        tensor = {"name": "response", "shape": [1], "datatype": "BYTES", "data": [text]}
        return json.dumps({"inputs": [tensor]}, ensure_ascii=False).encode()
    return json.dumps({"response": text}, ensure_ascii=False).encode()


def _with_value(path: str, value: str) -> bytes:
    """Return a valid body with another field of this value."""
    return _with_text(path, "x").decode()[:-1].encode() + f', "other": {value}}}'.encode()


def _text(part: str) -> Callable[[str, int], bytes | None]:
    return lambda path, size: _with_text(path, _repeat(part, size // len(part.encode()) * len(part)))


def _value(start: str, part: str, end: str = "") -> Callable[[str, int], bytes | None]:
    return lambda path, size: _with_value(path, start + part * (size // len(part)) + end)


def _only(prefix: str, body: Callable[[int], str]) -> Callable[[str, int], bytes | None]:
    return lambda path, size: body(size).encode() if path.startswith(prefix) else None


def _tensor(shape: str, data: str) -> str:
    return f'{{"inputs": [{{"name": "response", "shape": [{shape}], "datatype": "BYTES", "data": [{data}]}}]}}'


def _commas(part: str, size: int) -> str:
    return ",".join([part] * (size // (len(part) + 1)))


_EMPTY_TENSOR = '{"name":"response","shape":[0],"datatype":"BYTES","data":[]}'

BODIES: dict[str, Callable[[str, int], bytes | None]] = {
    "one word": _text("a"),
    "words": _text("you worked hard "),
    "phone numbers": _text("(412)5550100"),
    "digits and dots": _text("1.2-3 "),
    "digits": _text("5"),
    "dashes in numbers": _text("0 1-"),
    "addresses": _text("a@a."),
    "at signs": _text("@"),
    "hosts": _text("a.b."),
    "links": _text("http://"),
    "www": _text("www."),
    "brackets": _text("(["),
    "placeholders": _text("[PHONE]"),
    "halves of placeholders": _text("[PHO"),
    "angle brackets": _text("< "),
    "fences": _text("```\n"),
    "spaces": _text(" "),
    "line breaks": _text("\n"),
    "combining marks": _text("a\u0301\u0327"),
    "zero width": _text("\u200b\u200d"),
    "emoji": _text("\U0001f468\u200d\U0001f469\u200d\U0001f467"),
    "CJK": _text("\u4e2d\u6587"),
    "unknown": _text("\u1c5a\U00010480 "),
    "apostrophes": _text("a'"),
    "quotes": _text('"'),
    "backslashes": _text("\\"),
    "colons": _text('":"'),
    "escapes": lambda path, size: _with_text(path, "@@").replace(b"@@", b"\\u00e9" * (size // 6)),
    "escaped quotes": lambda path, size: _with_text(path, "@@").replace(b"@@", b'\\"' * (size // 2)),
    "half a surrogate pair": lambda path, size: _with_text(path, "@@").replace(b"@@", b"\\ud800" * (size // 6)),
    "deep lists": _value("", "["),
    "deep objects": _value("", '{"a":'),
    "empty lists": _value("[", "[],", "0]"),
    "empty objects": _value("[", "{},", "0]"),
    "numbers": _value("[", "1,", "0]"),
    "floats": _value("[", "1.5e3,", "0]"),
    "one long number": _value("", "9"),
    "a long fraction": _value("0.", "9"),
    "a long exponent": _value("1e", "9"),
    "empty strings": _value("[", '"",', '""]'),
    "a text that does not end": _value('"', '\\"'),
    "white space": _value("", " ", "1"),
    "keys": lambda path, size: _with_value(
        path, "{" + ",".join(f'"{number:06}":0' for number in range(size // 11)) + "}"
    ),
    "one key again and again": lambda path, size: _with_value(path, "{" + _commas('"a":0', size) + "}"),
    "no JSON": lambda _, size: b"x" * size,
    "NUL": lambda _, size: b"\0" * size,
    "not UTF-8": lambda _, size: b'{"response": "' + b"\xff" * size + b'"}',
    "responses": _only("/v1/score", lambda size: '{"responses": [' + _commas('"a"', size) + "]}"),
    "different responses": _only(
        "/v1/score", lambda size: json.dumps({"responses": ["why " * (size // 4000) + str(n) for n in range(900)]})
    ),
    "responses of no type": _only("/v1/score", lambda size: '{"responses": [' + _commas("0", size) + "]}"),
    "a long model": _only("/v1/", lambda size: json.dumps({"response": "x", "model": "m" * size})),
    "texts of a pair": _only("/predict", lambda size: '{"inputs": [' + _commas('"a"', size) + "]}"),
    "a batch": _only("/predict", lambda size: '{"inputs": [' + _commas('["a"]', size) + "]}"),
    "a mixed batch": _only("/predict", lambda size: '{"inputs": ["a",' + _commas('["a"]', size) + "]}"),
    "dimensions": _only("/v2", lambda size: _tensor(_commas("9223372036854775807", size), '"a"')),
    "dimensions of two": _only("/v2", lambda size: _tensor(_commas("2", size), '"a"')),
    "data": _only("/v2", lambda size: _tensor("1", _commas('"a"', size))),
    "data in lists": _only("/v2", lambda size: _tensor("1", _commas('["a"]', size))),
    "empty data": _only("/v2", lambda size: _tensor("0", _commas("[]", size))),
    "tensors": _only(
        "/v2",
        lambda size: (
            '{"inputs": [' + _commas('{"name":"response","shape":[0],"datatype":"BYTES","data":[]}', size) + "]}"
        ),
    ),
    "outputs": _only(
        "/v2", lambda size: _tensor("1", '"a"')[:-1] + ', "outputs": [' + _commas('{"name":"label"}', size) + "]}"
    ),
}

TEXTS = tuple(BODIES)[: tuple(BODIES).index("escapes")]
"""Names of the bodies that are valid and differ only in their text."""

BULK: dict[str, Callable[[int], bytes]] = {
    "blank lines": lambda size: b"\n" * size,
    "lines of spaces": lambda size: b" \r\n" * (size // 3),
    "one line of spaces": lambda size: b" " * size,
    "numbers": lambda size: b"1\n" * (size // 2),
    "brackets": lambda size: b"[\n" * (size // 2),
    "short texts": lambda size: b'"a"\n' * (size // 4),
    "different texts": lambda size: b"".join(b'"why %d"\n' % number for number in range(size // 10)),
    "phone numbers": lambda size: json.dumps("(412)5550100" * (size // 12)).encode(),
    "a line that does not end": lambda size: b'"' + b"x" * size,
    "deep lists": lambda size: b"[" * size + b"\n",
}

_LINE = b"POST /v1/score HTTP/1.1\r\n"
_CHUNKED = _LINE + _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
_LONG = _HEAD + b"Content-Length: 1000000000\r\n\r\n"
_BODY = b"14\r\n" + b'{"response": "a b"}\n' + b"\r\n"

STREAMS: dict[str, Callable[[int], bytes]] = {
    "blank lines": lambda size: b"\r\n" * (size // 2),
    "line feeds": lambda size: b"\n" * size,
    "a long target": lambda size: b"GET /" + b"a" * size,
    "a target of escapes": lambda size: (
        (b"GET /" + b"%41" * 5000 + b" HTTP/1.1\r\n" + _HEAD + b"\r\n") * (size // 15_000 + 1)
    ),
    "a query": lambda size: (
        (b"POST /v1/score/bulk?" + b"a=b&" * 3500 + b" HTTP/1.1\r\n" + _HEAD + b"\r\n") * (size // 14_000 + 1)
    ),
    "a header that does not end": lambda size: _LINE + b"A: " + b"a" * size,
    "many headers": lambda size: _LINE + b"a:b\r\n" * (size // 5),
    "headers without values": lambda size: _LINE + b"a:\r\n" * (size // 4),
    "many hosts": lambda size: _LINE + b"Host: a\r\n" * (size // 9),
    "no HTTP": lambda size: b"\x16\x03" * (size // 2),
    "pipelined GETs": lambda size: b"GET /livez HTTP/1.1\r\nHost:\r\n\r\n" * (size // 30),
    "pipelined GETs without Host": lambda size: b"GET / HTTP/1.1\r\n\r\n" * (size // 18),
    "pipelined unknown paths": lambda size: b"GET /x HTTP/1.1\r\nHost:\r\n\r\n" * (size // 27),
    "pipelined POSTs": lambda size: (_LINE + _HEAD + b"Content-Length: 1\r\n\r\nx") * (size // 99),
    "pipelined upgrades": lambda size: (
        b"GET /livez HTTP/1.1\r\nHost:\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n" * (size // 62)
    ),
    "upgrades with bodies": lambda size: (
        (_LINE + _HEAD + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\nx") * (size // 130)
    ),
    "chunks of one byte": lambda size: _CHUNKED + b"1\r\n \r\n" * (size // 6) + _BODY + b"0\r\n\r\n",
    "line breaks in chunks": lambda size: (
        _CHUNKED + b"100\r\n%b\r\n" % (b"\n\r\n\r" * 64) * (size // 263) + b"0\r\n\r\n"
    ),
    "chunk extensions": lambda size: _CHUNKED + (b"1;" + b"a=b;" * 200 + b"\r\n \r\n") * (size // 807) + b"0\r\n\r\n",
    "one chunk extension": lambda size: _CHUNKED + b"1;" + b"a" * size,
    "a chunk size of zeros": lambda size: _CHUNKED + b"0" * size,
    "many trailers": lambda size: _CHUNKED + _BODY + b"0\r\n" + b"a:b\r\n" * (size // 5),
    "one trailer": lambda size: _CHUNKED + _BODY + b"0\r\nA: " + b"a" * size,
    "an unread body": lambda size: (
        b"POST /livez HTTP/1.1\r\n" + _HEAD + b"Content-Length: 1000000000\r\n\r\n" + bytes(size)
    ),
    "a body that is too long": lambda size: _LINE + _HEAD + b"Content-Length: 1000000000\r\n\r\n" + bytes(size),
}
