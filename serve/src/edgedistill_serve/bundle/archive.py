"""A bundle as one file: a zip whose bytes depend on the bundle alone, and the way back.

Members are stored and not deflated: what a compressor writes differs between its versions, and a stored member cannot
grow when it is read. Names are sorted; times, modes and the writing system are fixed.
"""

import os
import shutil
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from secrets import token_hex

from edgedistill_serve.bundle.atomic_folder import (
    finish_replacement,
    remove_leftovers,
    replace_folder,
    temporary_sibling,
)
from edgedistill_serve.bundle.files import (
    MANIFEST_FILE,
    MAX_FILES,
    SIGNATURE_FILE,
    damaged_file,
    max_file_bytes,
    path_in_bundle,
)
from edgedistill_serve.bundle.loading import Bundle, check_bundle_target
from edgedistill_serve.errors import BundleError

_AT_ONCE = 1024 * 1024
_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest that zip can say."""
_UNIX = 3
_MODE = stat.S_IFREG | 0o644
_NOT_PACKED_HERE = "Only a file that `edgedistill-serve bundle pack` wrote is unpacked; get it anew."


def pack(bundle: Bundle, file: Path, *, overwrite: bool = False) -> int:
    """Write a bundle into one zip file; the same bundle gives the same bytes on every machine.

    Files that ``bundle.json`` does not list are left out; the signature is packed too.

    Args:
        bundle: As it was loaded.
        file: The file to write.
        overwrite: Whether a file that is there is replaced.

    Returns:
        The bytes of the file.

    Raises:
        BundleError: The file is there and may not be replaced, or it cannot be written.
    """
    if file.exists() and not overwrite:
        raise BundleError("the file is there already", where=str(file), hint="Name another, or add --force.")
    signature = [SIGNATURE_FILE] if bundle.signature != "none" else []
    aside = file.with_name(f".{file.name}.{token_hex(4)}")
    try:
        with zipfile.ZipFile(aside, "x", zipfile.ZIP_STORED) as archive:
            for name in sorted([MANIFEST_FILE, *signature, *bundle.manifest.files]):
                _add(archive, bundle.folder, name)
        aside.replace(file)
        return file.stat().st_size
    except (OSError, ValueError) as error:
        raise BundleError(f"the file cannot be written ({error})", where=str(file)[:200]) from None
    finally:
        aside.unlink(missing_ok=True)


def unpack(file: Path, folder: Path, *, public_key: Path | None = None) -> Bundle:
    """Unpack a file that `pack` wrote, check the bundle, and only then put it into place.

    Nothing is written outside a folder beside ``folder``, no member may be a link, and no member or all together may be
    larger than the file itself.

    Args:
        file: The zip file.
        folder: Where the bundle shall lie. A bundle that is there is replaced, and stays whole until then.
        public_key: As for `Bundle.load`.

    Raises:
        BundleError: The file is no packed bundle, the folder holds something else, or it cannot be written.
        BundleDamaged: A member is not what ``bundle.json`` says, or its path leads out.
        SignatureRefused: As for `Bundle.load`.
        SigningKeyError: As for `Bundle.load`.
    """
    folder = folder.absolute()
    aside = temporary_sibling(folder)
    try:
        check_bundle_target(folder)
        finish_replacement(folder)
        with zipfile.ZipFile(file) as archive:
            for member in _checked(archive, file):
                _extract(archive, member, aside)
        bundle = Bundle.load(aside, public_key=public_key)
        if bundle.unlisted:
            raise BundleError(f"{MANIFEST_FILE} does not list {bundle.unlisted[0]}", where=str(file))
        replace_folder(aside, folder)
        remove_leftovers(folder)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, UnicodeError) as error:
        # zipfile raises NotImplementedError for ways of packing that it lacks, RuntimeError for encrypted files.
        raise BundleError(
            f"the file is no packed bundle ({error})", where=str(file)[:200], hint=_NOT_PACKED_HERE
        ) from None
    except (OSError, ValueError) as error:
        raise BundleError(f"the bundle cannot be unpacked ({error})", where=str(file)[:200]) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return replace(bundle, folder=folder.resolve())


def _add(archive: zipfile.ZipFile, folder: Path, name: str) -> None:
    member = zipfile.ZipInfo(name, _TIME)
    member.create_system, member.external_attr = _UNIX, _MODE << 16
    member.file_size = (folder / name).stat().st_size
    with (folder / name).open("rb") as source, archive.open(member, "w") as target:
        shutil.copyfileobj(source, target, _AT_ONCE)


def _checked(archive: zipfile.ZipFile, file: Path) -> list[zipfile.ZipInfo]:
    """Refuse an archive before a byte of it is written."""
    members = archive.infolist()
    for fault in _faults(members, file.stat().st_size):
        raise BundleError(f"the file is no packed bundle: {fault}", where=str(file), hint=_NOT_PACKED_HERE)
    return members


def _faults(members: list[zipfile.ZipInfo], size: int) -> Iterator[str]:
    names = [member.filename for member in members]
    if MANIFEST_FILE not in names:
        yield f"there is no {MANIFEST_FILE} in it"
    if len(members) > MAX_FILES + 2:
        yield f"it has {len(members)} members, {MAX_FILES + 2} are allowed"
    if len(set(names)) < len(names):
        yield "two members have the same name"
    for member in members:
        yield from (f"{member.filename[:100]!r} {fault}" for fault in _member_faults(member))
    # Stored members that together are larger than the file would have to share their bytes.
    if sum(member.file_size for member in members) > size:
        yield "its members are larger than itself"


def _member_faults(member: zipfile.ZipInfo) -> Iterator[str]:
    limit = max_file_bytes(member.filename)
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        yield "is compressed or encrypted"
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG) or member.is_dir():
        yield "is no regular file"
    if member.file_size > limit:
        yield f"has {member.file_size} bytes, {limit} are allowed"


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    target = path_in_bundle(folder, member.filename)
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, target.open("xb") as written:
        left = member.file_size
        while content := source.read(min(_AT_ONCE, left + 1)):
            left -= len(content)
            if left < 0:
                raise damaged_file(member.filename, "the member is longer than it says")
            written.write(content)
        written.flush()
        os.fsync(written.fileno())
