"""A bundle is packed into one file, and only bundles can be unpacked."""

import hashlib
import shutil
import stat
import subprocess
import sys
import zipfile

import pytest

from edgedistill_serve import Bundle, BundleDamaged, BundleError, SignatureRefused
from edgedistill_serve.bundle.archive import pack, unpack
from edgedistill_serve.bundle.signing import create_key_pair, sign_bundle

PACK = (
    "import sys; from pathlib import Path; from edgedistill_serve import Bundle\n"
    "from edgedistill_serve.bundle.archive import pack; pack(Bundle.load(sys.argv[1]), Path(sys.argv[2]))"
)


@pytest.fixture
def packed(bundle, tmp_path):
    pack(bundle, tmp_path / "praise.zip")
    return tmp_path / "praise.zip"


def repack(packed, change):
    """Write the members again, each as `change` returns it: None, or (ZipInfo, content)."""
    target = packed.with_name("changed.zip")
    with zipfile.ZipFile(packed) as source, zipfile.ZipFile(target, "w") as archive:
        for member in source.infolist():
            if kept := change(member, source.read(member)):
                archive.writestr(*kept)
    return target


def test_unpacking_restores_the_packed_bundle(packed, bundle, tmp_path):
    again = unpack(packed, tmp_path / "praise")
    assert again.manifest == bundle.manifest
    assert Bundle.load(tmp_path / "praise") == again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["praise", "praise.zip"]


def test_two_processes_pack_the_same_bytes(bundle, tmp_path):
    copy = shutil.copytree(bundle.folder, tmp_path / "copy", copy_function=shutil.copyfile)  # other times
    (copy / "README.md").chmod(0o600)
    for name, folder in (("first", bundle.folder), ("second", copy)):
        subprocess.run([sys.executable, "-c", PACK, folder, tmp_path / name], check=True, umask=0o077)
    first, second = ((tmp_path / name).read_bytes() for name in ("first", "second"))
    assert hashlib.sha256(first).hexdigest() == hashlib.sha256(second).hexdigest()


def test_members_are_sorted_and_say_nothing_of_this_machine(packed):
    with zipfile.ZipFile(packed) as archive:
        members = archive.infolist()
    assert [member.filename for member in members] == sorted(member.filename for member in members)
    assert {(member.date_time, member.external_attr >> 16, member.create_system) for member in members} == {
        ((1980, 1, 1, 0, 0, 0), stat.S_IFREG | 0o644, 3)
    }


def test_files_that_are_not_listed_are_not_packed(bundle, tmp_path):
    copy = shutil.copytree(bundle.folder, tmp_path / "copy")
    (copy / "notes.txt").write_text("private")
    loaded = Bundle.load(copy)
    assert loaded.unlisted == ("notes.txt",)
    pack(loaded, tmp_path / "praise.zip")
    with zipfile.ZipFile(tmp_path / "praise.zip") as archive:
        assert "notes.txt" not in archive.namelist()


def test_a_signature_travels_with_the_bundle(make_bundle, tmp_path):
    key = create_key_pair(tmp_path / "maker")
    folder = make_bundle(tmp_path / "bundle").folder
    sign_bundle(folder, tmp_path / "maker")
    pack(Bundle.load(folder), tmp_path / "praise.zip")
    assert unpack(tmp_path / "praise.zip", tmp_path / "again", public_key=key).signature == "valid"


def test_an_unsigned_file_is_not_unpacked_with_a_public_key(packed, tmp_path):
    key = create_key_pair(tmp_path / "maker")
    with pytest.raises(SignatureRefused):
        unpack(packed, tmp_path / "praise", public_key=key)
    assert not (tmp_path / "praise").exists()


def test_a_packed_bundle_is_not_loaded_as_it_is(packed):
    with pytest.raises(BundleError, match="edgedistill-serve bundle unpack FILE FOLDER"):
        Bundle.load(packed)


def test_an_existing_file_is_replaced_only_with_overwrite(packed, bundle):
    before = packed.read_bytes()
    with pytest.raises(BundleError, match="exists already"):
        pack(bundle, packed)
    packed.write_bytes(b"old")
    pack(bundle, packed, overwrite=True)
    assert packed.read_bytes() == before


def test_an_unpacked_bundle_replaces_one_and_nothing_else(packed, make_bundle, bundle, tmp_path):
    make_bundle(tmp_path / "place", files={"README.md": b"older"})
    assert unpack(packed, tmp_path / "place").manifest == bundle.manifest
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(BundleError, match="the folder exists and is not a bundle"):
        unpack(packed, tmp_path / "thesis")


def named(name):
    def change(member, content):
        if member.filename == "README.md":
            member = zipfile.ZipInfo(name)
        return member, content

    return change


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "onnx/../../out.txt", "a\\..\\out.txt", "C:out.txt"])
def test_a_member_that_leads_out_writes_nothing_outside(packed, tmp_path, name):
    (tmp_path / "in").mkdir()
    with pytest.raises(BundleDamaged, match="leads out"):
        unpack(repack(packed, named(name)), tmp_path / "in" / "praise")
    assert list((tmp_path / "in").iterdir()) == []
    assert not (tmp_path / "out.txt").exists()


def linked(member, content):
    if member.filename == "README.md":
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        content = b"/etc/hostname"
    return member, content


def deflated(member, content):
    member.compress_type = zipfile.ZIP_DEFLATED
    return member, content


CHANGES = {
    "a link": (linked, "not a regular file"),
    "a compressed member": (deflated, "compressed or encrypted"),
    "no manifest": (lambda m, c: None if m.filename == "bundle.json" else (m, c), r"contains no bundle\.json"),
    "a folder": (named("folder/"), "not a regular file"),
    "a missing member": (lambda m, c: None if m.filename == "golden.json" else (m, c), "the file is missing"),
    "another content": (lambda m, c: (m, c[::-1]) if m.filename == "README.md" else (m, c), "was changed"),
    "an unlisted member": (named("extra.txt"), "missing"),
    "a member without a name": (named(""), "has no name"),
    "a member that is this folder": (named("."), "leads out"),
}


def test_a_name_that_ends_at_a_zero_byte_is_refused(packed, tmp_path):
    """Here, zipfile reads ``READ`` where another program reads the whole name."""
    content = packed.read_bytes()
    assert content.count(b"README.md") >= 2
    (tmp_path / "zero.zip").write_bytes(content.replace(b"README.md", b"READ\0E.md"))
    with pytest.raises(BundleError, match="has a name that programs read differently"):
        unpack(tmp_path / "zero.zip", tmp_path / "praise")


@pytest.mark.parametrize(
    "around",
    [
        lambda content: b"#!/bin/sh\n" * 100 + content,
        lambda content: content + b"junk" * 10,
        lambda content: content[:-2] + b"\x05\x00notes",
        lambda content: content[:-30],
    ],
    ids=["bytes before", "bytes after", "a comment", "cut off"],
)
def test_bytes_around_the_archive_are_refused(packed, tmp_path, around):
    (tmp_path / "around.zip").write_bytes(around(packed.read_bytes()))
    with pytest.raises(BundleError, match="not a packed bundle"):
        unpack(tmp_path / "around.zip", tmp_path / "praise")
    assert not (tmp_path / "praise").exists()


def test_bytes_between_members_are_refused(packed, tmp_path):
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("other.txt", "a message")
    with zipfile.ZipFile(packed, "a") as archive:
        archive.filelist.pop()  # its bytes stay
        archive.comment = b"x"
        archive.comment = b""
    assert b"a message" in packed.read_bytes()
    with pytest.raises(BundleError, match="bytes before, between or after its members"):
        unpack(packed, tmp_path / "praise")


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_pack_did_not_write_is_refused(packed, tmp_path, change):
    edit, message = CHANGES[change]
    with pytest.raises(BundleError, match=message):
        unpack(repack(packed, edit), tmp_path / "praise")
    assert not (tmp_path / "praise").exists()


def test_an_unlisted_member_is_refused(packed, tmp_path):
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("extra.txt", "x")
    with pytest.raises(BundleError, match=r"bundle\.json does not list extra\.txt"):
        unpack(packed, tmp_path / "praise")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_name_twice_is_refused(packed, tmp_path):
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("README.md", "other")
    with pytest.raises(BundleError, match="two members have the same name"):
        unpack(packed, tmp_path / "praise")


def test_members_that_share_their_bytes_are_refused_before_anything_is_written(packed, tmp_path):
    def inflate(name):
        with zipfile.ZipFile(packed, "a") as archive:
            member = archive.getinfo(name)
            member.file_size = member.compress_size = packed.stat().st_size
            archive.comment = b"written again"

    inflate("README.md")
    with pytest.raises(BundleError, match="larger than the file"):
        unpack(packed, tmp_path / "praise")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"PK\x05\x06" + b"\0" * 18])
def test_a_file_that_is_not_a_zip_is_refused(tmp_path, content):
    (tmp_path / "file.zip").write_bytes(content)
    with pytest.raises(BundleError, match="not a packed bundle"):
        unpack(tmp_path / "file.zip", tmp_path / "praise")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BundleError, match=r"nowhere\.zip: the bundle cannot be unpacked"):
        unpack(tmp_path / "nowhere.zip", tmp_path / "praise")
