"""Ed25519 signatures: who made a bundle, beyond whether it is whole.

What is signed are the exact bytes of ``bundle.json``, which holds the checksum of every other file; the signature, 64
bytes, lies beside it in ``bundle.json.sig``. Keys are PEM files as OpenSSL writes them, so that
``openssl pkeyutl -verify -pubin -inkey KEY.pub -rawin -in bundle.json -sigfile bundle.json.sig`` checks one too.

The package `cryptography` comes with ``edgedistill-serve[sign]``; nothing here is needed to read an unsigned bundle.
"""

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill_serve.bundle.files import MANIFEST_FILE, SIGNATURE_FILE
from edgedistill_serve.errors import BundleError, SignatureRefused, SigningKeyError

if TYPE_CHECKING:  # only a bundle that is signed or checked needs it
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_KEY_LIMIT = 16 * 1024
_OTHERS_MAY_READ = stat.S_IRWXG | stat.S_IRWXO
_INSTALL = "Install it: pip install 'edgedistill-serve[sign]'."


def create_key_pair(file: Path) -> Path:
    """Write a new private key, readable by its owner alone, and its public key beside it.

    Args:
        file: The private key's file; the public key's has the same name and ``.pub`` at its end.

    Returns:
        The public key's file.

    Raises:
        SigningKeyError: One of the files is there already or cannot be written, it would lie inside a bundle, or the
            package `cryptography` is missing.
    """
    serialization, ed25519 = _cryptography()
    public_file = file.with_name(file.name + ".pub")
    _expect_outside_of_bundles(file)
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    if public_file.exists():
        raise SigningKeyError("the file is there already", where=str(public_file), hint="Give another name.")
    _write_new(file, private, 0o600)
    _write_new(public_file, public, 0o644)
    return public_file


def sign_bundle(folder: Path, private_key: Path) -> Path:
    """Sign a bundle with the private key of a PEM file; a signature that is there is replaced.

    Args:
        folder: A bundle that was loaded, so that what is signed is whole.
        private_key: As `create_key_pair` writes it. It must not lie inside the bundle.

    Returns:
        The signature's file.

    Raises:
        SigningKeyError: The key cannot be used, others can read it, or it lies inside a bundle.
        BundleError: The signature cannot be written.
    """
    key = _private_key(private_key)
    _expect_outside_of_bundles(private_key)
    target = folder / SIGNATURE_FILE
    aside = folder / f".{SIGNATURE_FILE}.new"
    try:
        aside.write_bytes(key.sign((folder / MANIFEST_FILE).read_bytes()))
        aside.replace(target)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise BundleError(f"the signature cannot be written ({error})", where=str(folder)) from None
    return target


def check_signature(content: bytes, signature: bytes | None, public_key: Path, where: str) -> None:
    """Check who signed a bundle.

    Args:
        content: The bytes of its ``bundle.json``.
        signature: The bytes of its ``bundle.json.sig``, None where it has none.
        public_key: The PEM file of the public key.
        where: What an error calls the bundle.

    Raises:
        SignatureRefused: There is no signature, or it is not of this content with this key.
        SigningKeyError: The key cannot be used, or everybody can change it.
    """
    key = _public_key(public_key)
    from cryptography.exceptions import InvalidSignature

    if signature is None:
        raise SignatureRefused(
            "the bundle is not signed", where=where, hint="Have its maker sign it, or leave out --public-key."
        )
    try:
        key.verify(signature, content)
    except InvalidSignature:
        raise SignatureRefused(
            f"the signature is not that of {public_key.name}, or {MANIFEST_FILE} was changed after signing",
            where=where,
            hint="Get the bundle, or the right public key, from its maker; do not use this one.",
        ) from None


def _private_key(file: Path) -> "Ed25519PrivateKey":
    serialization, ed25519 = _cryptography()
    content = _key_content(file, _OTHERS_MAY_READ, f"others can read it; run: chmod 600 {file.name}")
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError:
        raise SigningKeyError("the key has a passphrase", where=str(file), hint="Give one without.") from None
    except Exception:  # noqa: BLE001  cryptography raises many kinds; their words could quote the key
        raise SigningKeyError("this is no private key in PEM", where=str(file), hint=_make_one(file)) from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise SigningKeyError("the key is not of the kind Ed25519", where=str(file), hint=_make_one(file))
    private: Ed25519PrivateKey = key
    return private


def _public_key(file: Path) -> "Ed25519PublicKey":
    serialization, ed25519 = _cryptography()
    content = _key_content(file, stat.S_IWOTH, f"everybody can change it; run: chmod 644 {file.name}")
    if b"PRIVATE KEY" in content:
        raise SigningKeyError(
            "this is a private key", where=str(file), hint="Give the public one; keep this one to its owner."
        )
    try:
        key = serialization.load_pem_public_key(content)
    except Exception:  # noqa: BLE001  cryptography raises many kinds
        raise SigningKeyError("this is no public key in PEM", where=str(file)) from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise SigningKeyError("the key is not of the kind Ed25519", where=str(file))
    public: Ed25519PublicKey = key
    return public


def _key_content(file: Path, forbidden: int, fault: str) -> bytes:
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            content = opened.read(_KEY_LIMIT + 1)
    except (OSError, ValueError) as error:
        raise SigningKeyError(f"the key cannot be read ({error})", where=str(file)[:200]) from None
    if os.name == "posix" and mode & forbidden:
        raise SigningKeyError(f"the key is not used, since {fault}", where=str(file))
    if len(content) > _KEY_LIMIT:
        raise SigningKeyError("the file is too large for a key", where=str(file))
    return content


def _write_new(file: Path, content: bytes, mode: int) -> None:
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as opened:
            opened.write(content)
    except FileExistsError:
        raise SigningKeyError("the file is there already", where=str(file), hint="Give another name.") from None
    except (OSError, ValueError) as error:
        raise SigningKeyError(f"the key cannot be written ({error})", where=str(file)[:200]) from None


def _expect_outside_of_bundles(private_key: Path) -> None:
    if any((folder / MANIFEST_FILE).exists() for folder in private_key.absolute().resolve().parents):
        raise SigningKeyError(
            "a private key must not lie inside a bundle", where=str(private_key), hint="Keep it somewhere else."
        )


def _make_one(file: Path) -> str:
    return f"Make one: edgedistill-serve key-pair {file.name}."


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise SigningKeyError("signatures need the package cryptography", hint=_INSTALL) from None
    return serialization, ed25519
