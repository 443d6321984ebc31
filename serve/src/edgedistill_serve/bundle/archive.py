"""Packing of a bundle into one reproducible zip file, and unpacking.

Members are stored without compression: the output of a compressor differs between its versions, and a stored member
cannot expand when it is read. Names are sorted; times, modes and the creating system are fixed.
"""

import os
import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import suppress
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

_COPY_BYTES = 1024 * 1024
_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip file can store."""
_UNIX = 3
_MODE = stat.S_IFREG | 0o644
_LOCAL_HEADER_BYTES, _DIRECTORY_ENTRY_BYTES, _END_BYTES = 30, 46, 22
_LARGE = 2_000_000_000
"""From about this size on, members have extra fields with larger numbers (ZIP64)."""
_NOT_PACKED_HINT = "Only files written by `edgedistill-serve bundle pack` can be unpacked. Get the file again."


def pack(bundle: Bundle, file: Path, *, overwrite: bool = False) -> int:
    """Write a bundle to one zip file; the same bundle gives the same bytes on every machine.

    Files that ``bundle.json`` does not list are left out; the signature is included.

    Args:
        bundle: A loaded bundle.
        file: The file to write.
        overwrite: Whether to replace an existing file.

    Returns:
        The size of the file in bytes.

    Raises:
        BundleError: The file exists and ``overwrite`` is false, or it cannot be written.
    """
    if file.exists() and not overwrite:
        raise BundleError("the file exists already", where=str(file), hint="Choose another name, or add --force.")
    signature = [SIGNATURE_FILE] if bundle.signature != "none" else []
    temporary = file.with_name(f".{file.name[:40]}.{token_hex(4)}")
    try:
        with zipfile.ZipFile(temporary, "x", zipfile.ZIP_STORED) as archive:
            for name in sorted([MANIFEST_FILE, *signature, *bundle.manifest.files]):
                _add(archive, bundle.folder, name)
        temporary.replace(file)
        return file.stat().st_size
    except (OSError, ValueError) as error:
        raise BundleError(f"the file cannot be written ({error})", where=str(file)[:200]) from None
    finally:
        with suppress(OSError):  # which would hide the error that ended the block
            temporary.unlink(missing_ok=True)


def unpack(file: Path, folder: Path, *, public_key: Path | None = None) -> Bundle:
    """Unpack a file written by `pack` into a temporary folder, check the bundle, and move it to its destination.

    All files are written inside the temporary folder. No member may be a link, and the members together may not be
    larger than the zip file.

    Args:
        file: The zip file.
        folder: Destination. An existing bundle stays intact until the new one is complete, and is then replaced.
        public_key: As for `Bundle.load`.

    Raises:
        BundleError: The file is not a packed bundle, the destination contains other files, or it cannot be written.
        BundleDamaged: A member does not match ``bundle.json``, or its path leads out of the folder.
        SignatureRefused: As for `Bundle.load`.
        SigningKeyError: As for `Bundle.load`.
    """
    folder = folder.absolute()
    temporary = temporary_sibling(folder)
    try:
        check_bundle_target(folder)
        finish_replacement(folder)
        with zipfile.ZipFile(file) as archive:
            for member in _checked(archive, file):
                _extract(archive, member, temporary)
        bundle = Bundle.load(temporary, public_key=public_key)
        if bundle.unlisted:
            raise BundleError(f"{MANIFEST_FILE} does not list {bundle.unlisted[0]}", where=str(file))
        replace_folder(temporary, folder)
        remove_leftovers(folder)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, UnicodeError) as error:
        # zipfile raises NotImplementedError for unsupported compression, RuntimeError for encrypted files.
        raise BundleError(
            f"the file is not a packed bundle ({error})", where=str(file)[:200], hint=_NOT_PACKED_HINT
        ) from None
    except (OSError, ValueError) as error:
        raise BundleError(f"the bundle cannot be unpacked ({error})", where=str(file)[:200]) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return replace(bundle, folder=folder.resolve())


def _add(archive: zipfile.ZipFile, folder: Path, name: str) -> None:
    member = zipfile.ZipInfo(name, _TIME)
    member.create_system, member.external_attr = _UNIX, _MODE << 16
    member.file_size = (folder / name).stat().st_size
    with (folder / name).open("rb") as source, archive.open(member, "w") as target:
        shutil.copyfileobj(source, target, _COPY_BYTES)


def _checked(archive: zipfile.ZipFile, file: Path) -> list[zipfile.ZipInfo]:
    """Check an archive before any member is written."""
    members = archive.infolist()
    for fault in _faults(members, file.stat().st_size):
        raise BundleError(f"the file is not a packed bundle: {fault}", where=str(file), hint=_NOT_PACKED_HINT)
    return members


def _faults(members: list[zipfile.ZipInfo], size: int) -> Iterator[str]:
    names = [member.filename for member in members]
    if MANIFEST_FILE not in names:
        yield f"it contains no {MANIFEST_FILE}"
    if len(members) > MAX_FILES + 2:
        yield f"it has {len(members)} members, {MAX_FILES + 2} are allowed"
    if len(set(names)) < len(names):
        yield "two members have the same name"
    for member in members:
        yield from (f"{member.filename[:100]!r} {fault}" for fault in _member_faults(member))
    # Stored members that are larger than the file would have to overlap.
    if sum(member.file_size for member in members) > size:
        yield "its members are larger than the file"
    if size < _LARGE and size != _packed_size(members):
        yield "it has bytes before, between or after its members"


def _packed_size(members: list[zipfile.ZipInfo]) -> int:
    """Return the size of an archive without comments, extra fields, and bytes that belong to no member."""
    names = sum(len(member.orig_filename.encode()) for member in members)
    contents = sum(member.file_size for member in members)
    return contents + 2 * names + len(members) * (_LOCAL_HEADER_BYTES + _DIRECTORY_ENTRY_BYTES) + _END_BYTES


def _member_faults(member: zipfile.ZipInfo) -> Iterator[str]:
    limit = max_file_bytes(member.filename)
    if not member.filename:
        yield "has no name"
    if member.orig_filename != member.filename:
        yield "has a name that programs read differently"
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        yield "is compressed or encrypted"
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG) or member.is_dir():
        yield "is not a regular file"
    if member.file_size > limit:
        yield f"has {member.file_size} bytes, {limit} are allowed"


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    target = path_in_bundle(folder, member.filename)
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, target.open("xb") as written:
        remaining = member.file_size
        while content := source.read(min(_COPY_BYTES, remaining + 1)):
            remaining -= len(content)
            if remaining < 0:
                raise damaged_file(member.filename, "the member is longer than its header says")
            written.write(content)
        written.flush()
        os.fsync(written.fileno())
