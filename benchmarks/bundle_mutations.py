"""Ways to break a bundle: each changes a copy of one, or its packed file, by what a seeded generator draws."""

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

MANIFEST = "bundle.json"
SEVERAL = 4


def flip_bytes(folder: Path, draw: random.Random) -> None:
    """Change one to four bytes of one file."""
    file = _any_file(folder, draw)
    content = bytearray(file.read_bytes())
    for _ in range(draw.randint(1, SEVERAL)):
        content[draw.randrange(len(content))] ^= draw.randint(1, 255)
    file.write_bytes(content)


def flip_manifest_bytes(folder: Path, draw: random.Random) -> None:
    """Change one to four bytes of `bundle.json`, of which most still leave JSON."""
    file = folder / MANIFEST
    content = bytearray(file.read_bytes())
    for _ in range(draw.randint(1, SEVERAL)):
        content[draw.randrange(len(content))] = draw.choice(b'0123456789abcdefghijklmnopqrstuvwxyz-.",:{}[] ')
    file.write_bytes(content)


def truncate(folder: Path, draw: random.Random) -> None:
    """Cut one file at any place."""
    file = _any_file(folder, draw)
    os.truncate(file, draw.randrange(file.stat().st_size))


def append(folder: Path, draw: random.Random) -> None:
    """Let one file grow."""
    with _any_file(folder, draw).open("ab") as opened:
        opened.write(draw.randbytes(draw.randint(1, 4096)))


def rename(folder: Path, draw: random.Random) -> None:
    """Give one file another name, or move it up."""
    file = _any_file(folder, draw)
    file.rename(draw.choice([file.with_name(file.name + ".bak"), folder / f"x{file.name}", folder.parent / "gone"]))


def swap(folder: Path, draw: random.Random) -> None:
    """Let two files change their places."""
    one, other = draw.sample(_files(folder), 2)
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def link(folder: Path, draw: random.Random) -> None:
    """Put a link in a file's place: to itself elsewhere, to a device, to nothing, in a circle."""
    file = _any_file(folder, draw)
    elsewhere = folder.parent / "elsewhere"
    shutil.copyfile(file, elsewhere)
    file.unlink()
    file.symlink_to(draw.choice([elsewhere, Path("/dev/zero"), Path("/nowhere"), file]))


def list_a_path(folder: Path, draw: random.Random) -> None:
    """List a path that leads out, or is not in its plain form, with a right checksum or a wrong one."""
    tricks = [
        "../elsewhere",
        "/etc/hostname",
        "onnx/../../elsewhere",
        "./README.md",
        "C:\\x",
        "a\0b",
        "~/x",
        "",
        ".",
        "..",
    ]
    entry = draw.choice(list(_manifest(folder)["files"].values()))
    _change(folder, lambda content: content["files"].update({draw.choice([*tricks, "x" * 5000, "\u202e.json"]): entry}))


def rename_listed(folder: Path, draw: random.Random) -> None:
    """Let `bundle.json` name a file otherwise."""

    def change(content: dict[str, Any]) -> None:
        name = draw.choice(list(content["files"]))
        content["files"][draw.choice(["../" + name, name.upper(), name + "/", "//" + name])] = content["files"].pop(
            name
        )

    _change(folder, change)


def declare_a_size(folder: Path, draw: random.Random) -> None:
    """Let `bundle.json` name a size that is negative, huge, or no number."""
    size = draw.choice([-1, 0, 2**31, 2**63, 10**30, 10**400, 1.5, "10", None, True, [1]])
    _change(folder, lambda content: draw.choice(list(content["files"].values())).update(bytes=size))


def declare_a_checksum(folder: Path, draw: random.Random) -> None:
    """Let `bundle.json` name another checksum."""
    digest = draw.choice(["", "0" * 64, "f" * 10**6, None, 3, "é" * 64])
    _change(folder, lambda content: draw.choice(list(content["files"].values())).update(sha256=digest))


def repeat_a_key(folder: Path, draw: random.Random) -> None:
    """Let a key of `bundle.json` stand twice in its object."""
    file = folder / MANIFEST
    lines = file.read_text().splitlines()
    keyed = [i for i, line in enumerate(lines) if line.rstrip().endswith(",") and '": ' in line]
    at = draw.choice(keyed)
    lines.insert(at, lines[at])
    file.write_text("\n".join(lines))


def set_a_value(folder: Path, draw: random.Random) -> None:
    """Give a key of `bundle.json` a value of another type or range."""
    values = [
        None,
        True,
        0,
        -1,
        1,
        2,
        10**9,
        10**400,
        1e308,
        5e-324,
        "",
        "x" * 10**5,
        "\ud7ff",
        [],
        {},
        [[]] * 100,
        "int8",
    ]

    def change(content: dict[str, Any]) -> None:
        at = content
        while True:
            key = draw.choice(list(at))
            if isinstance(at[key], dict) and at[key] and draw.random() < 2 / 3:
                at = at[key]
            else:
                at[key] = draw.choice(values)
                return

    _change(folder, change)


def nest_deeply(folder: Path, draw: random.Random) -> None:
    """Let JSON nest so deep that a recursive reader falls over."""
    file = folder / draw.choice([MANIFEST, "golden.json"])
    depth = draw.choice([1000, 100_000, 1_000_000])
    file.write_bytes(draw.choice([b"[" * depth, b'{"a":' * depth, b"[" * depth + b"]" * depth]))


def replace_with_noise(folder: Path, draw: random.Random) -> None:
    """Put something else into a file's place: nothing, zeros, noise, another kind of file."""
    content = draw.choice(
        [b"", b"\0" * 4096, draw.randbytes(4096), b"\x80\x04N.", b"PK\x03\x04", b"{}", b"[]", b"\xff\xfe{}"]
    )
    _any_file(folder, draw).write_bytes(content)


def relist(folder: Path, draw: random.Random) -> None:
    """Change a listed file and its checksum with it, as its maker could: nothing covers this but a signature."""
    name = draw.choice(list(_manifest(folder)["files"]))
    content = bytearray((folder / name).read_bytes())
    for _ in range(draw.randint(1, SEVERAL)):
        content[draw.randrange(len(content))] ^= draw.randint(1, 255)
    (folder / name).write_bytes(content)
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    _change(folder, lambda manifest: manifest["files"].update({name: entry}))


def make_a_folder(folder: Path, draw: random.Random) -> None:
    """Put a folder, or a pipe, into a file's place."""
    file = _any_file(folder, draw)
    file.unlink()
    if draw.random() < 1 / 2:
        file.mkdir()
    else:
        os.mkfifo(file)


def change_packed(file: Path, draw: random.Random) -> None:
    """Change, cut or lengthen a packed bundle."""
    content = bytearray(file.read_bytes())
    kind = draw.choice(["anywhere", "directory", "cut", "prefix", "twice"])
    if kind in ("anywhere", "directory"):
        start = content.rfind(b"PK\x01\x02") if kind == "directory" else 0
        start = content.find(b"PK\x01\x02") if kind == "directory" and draw.random() < 1 / 2 else start
        for _ in range(draw.randint(1, SEVERAL)):
            content[draw.randrange(max(start, 0), len(content))] = draw.randrange(256)
    elif kind == "cut":
        del content[draw.randrange(len(content)) :]
    elif kind == "prefix":
        content[:0] = draw.randbytes(100)
    else:
        content.extend(bytes(content))
    file.write_bytes(content)


Mutation: TypeAlias = Callable[[Path, random.Random], None]
FOLDER_MUTATIONS: tuple[Mutation, ...] = (
    flip_bytes,
    flip_manifest_bytes,
    truncate,
    append,
    rename,
    swap,
    link,
    list_a_path,
    rename_listed,
    declare_a_size,
    declare_a_checksum,
    repeat_a_key,
    set_a_value,
    nest_deeply,
    replace_with_noise,
    relist,
    make_a_folder,
)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _any_file(folder: Path, draw: random.Random) -> Path:
    """One file, a large one not more often than a small one."""
    return draw.choice([file for file in _files(folder) if file.stat().st_size])


def _manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / MANIFEST).read_text())


def _change(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = _manifest(folder)
    change(content)
    (folder / MANIFEST).write_text(json.dumps(content))
