"""A signature proves the author of a bundle, and a private key stays private."""

import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from edgedistill_serve import Bundle, BundleDamaged, BundleError, SignatureRefused, SigningKeyError
from edgedistill_serve.bundle.signing import create_key_pair, sign_bundle


@pytest.fixture
def key(tmp_path):
    create_key_pair(tmp_path / "maker")
    return tmp_path / "maker"


@pytest.fixture
def signed(make_bundle, tmp_path, key):
    folder = make_bundle(tmp_path / "signed").folder
    sign_bundle(folder, key)
    return folder


def public(key):
    return key.with_name(key.name + ".pub")


def test_a_signed_bundle_is_read_with_the_makers_public_key(signed, key):
    assert Bundle.load(signed, public_key=public(key)).signature == "valid"


def test_without_a_public_key_a_signature_is_reported_and_not_checked(signed, bundle):
    assert Bundle.load(signed).signature == "not checked"
    assert bundle.signature == "none"


def test_an_unsigned_bundle_is_refused_with_a_public_key(bundle, key):
    with pytest.raises(SignatureRefused, match="the bundle is not signed"):
        Bundle.load(bundle.folder, public_key=public(key))


def test_another_makers_key_is_refused(signed, tmp_path):
    create_key_pair(tmp_path / "stranger")
    with pytest.raises(SignatureRefused, match=r"does not match stranger\.pub"):
        Bundle.load(signed, public_key=tmp_path / "stranger.pub")


def test_one_changed_byte_of_the_manifest_is_refused_though_it_is_valid_json(signed, key):
    content = (signed / "bundle.json").read_bytes()
    (signed / "bundle.json").write_bytes(content.replace(b'"name": "praise"', b'"name": "prayse"'))
    assert Bundle.load(signed).manifest.name == "prayse"
    with pytest.raises(SignatureRefused):
        Bundle.load(signed, public_key=public(key))


def test_the_signature_covers_every_listed_file_through_its_checksum(signed, key):
    (signed / "tokenizer.json").write_bytes((signed / "tokenizer.json").read_bytes() + b" ")
    with pytest.raises(BundleDamaged, match=r"tokenizer\.json"):
        Bundle.load(signed, public_key=public(key))


@pytest.mark.parametrize("content", [b"", b"x" * 63, b"x" * 64, b"x" * 65])
def test_an_invalid_signature_is_refused(signed, key, content):
    (signed / "bundle.json.sig").write_bytes(content)
    with pytest.raises(BundleError, match=r"signature does not match|larger than 64"):
        Bundle.load(signed, public_key=public(key))


def test_a_bundle_that_replaces_a_signed_one_is_unsigned(make_bundle, signed, key):
    make_bundle(signed)
    with pytest.raises(SignatureRefused, match="not signed"):
        Bundle.load(signed, public_key=public(key))


def test_a_private_key_is_its_owners_alone(key):
    assert key.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in public(key).read_bytes()


def test_a_private_key_that_others_can_read_is_not_used(bundle, key):
    key.chmod(0o640)
    with pytest.raises(SigningKeyError, match="other users can read it; run: chmod 600 maker"):
        sign_bundle(bundle.folder, key)


def test_a_public_key_that_everybody_can_change_is_not_used(signed, key):
    public(key).chmod(0o666)
    with pytest.raises(SigningKeyError, match="every user can change it"):
        Bundle.load(signed, public_key=public(key))


def test_a_private_key_in_place_of_the_public_one_is_refused_and_not_quoted(signed, key):
    with pytest.raises(SigningKeyError, match="this is a private key") as refused:
        Bundle.load(signed, public_key=key)
    assert key.read_text().splitlines()[1] not in str(refused.value)


def test_a_private_key_inside_a_bundle_is_refused(make_bundle, tmp_path, key):
    folder = make_bundle(tmp_path / "bundle").folder
    with pytest.raises(SigningKeyError, match="must not be inside a bundle"):
        create_key_pair(folder / "onnx" / "maker")
    moved = key.rename(folder / "maker")
    with pytest.raises(SigningKeyError, match="must not be inside a bundle"):
        sign_bundle(folder, moved)


def test_no_private_key_is_in_a_signed_bundle(signed, key):
    secret = key.read_text().splitlines()[1].encode()
    assert not [file for file in signed.rglob("*") if file.is_file() and secret in file.read_bytes()]


def test_a_key_pair_replaces_no_file(key):
    before = key.read_bytes()
    with pytest.raises(SigningKeyError, match="exists already"):
        create_key_pair(key)
    assert key.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_is_not_a_key_is_refused(bundle, tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(SigningKeyError, match="not a private key in PEM"):
        sign_bundle(bundle.folder, tmp_path / "key")
    with pytest.raises(SigningKeyError, match=r"not a public key in PEM|this is a private key"):
        Bundle.load(bundle.folder, public_key=tmp_path / "key")


def test_keys_of_another_kind_are_refused(bundle, tmp_path):
    other = generate_private_key(65537, 1024)
    (tmp_path / "key").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(SigningKeyError, match="not an Ed25519 key"):
        sign_bundle(bundle.folder, tmp_path / "key")
    (tmp_path / "key.pub").write_bytes(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(SigningKeyError, match="not an Ed25519 key"):
        Bundle.load(bundle.folder, public_key=tmp_path / "key.pub")


def test_a_key_that_is_not_there_is_named(bundle, tmp_path):
    with pytest.raises(SigningKeyError, match=r"nowhere\.pub: the key cannot be read"):
        Bundle.load(bundle.folder, public_key=tmp_path / "nowhere.pub")


def test_an_unsigned_bundle_is_read_without_the_package_cryptography(bundle):
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from edgedistill_serve import Bundle, SigningKeyError\n"
        "folder = sys.argv[1]; Bundle.load(folder)\n"
        "try: Bundle.load(folder, public_key=folder + '/bundle.json')\n"
        "except SigningKeyError as error: print(error)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(bundle.folder)], capture_output=True, text=True, check=True)
    assert "pip install 'edgedistill-serve[sign]'" in ended.stdout
