"""Ed25519 signatures, which prove the origin of a bundle.

A signature covers the exact bytes of ``bundle.json``, which contains the checksum of every other file. Its 64 bytes are
in ``bundle.json.sig``. Keys are PEM files in the format of OpenSSL, which can also check a signature:
``openssl pkeyutl -verify -pubin -inkey KEY.pub -rawin -in bundle.json -sigfile bundle.json.sig``.

The package `cryptography` comes with ``edgedistill-serve[sign]``; unsigned bundles do not need it.
"""

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill_serve.bundle.atomic_folder import replace_file
from edgedistill_serve.bundle.files import MANIFEST_FILE, SIGNATURE_FILE
from edgedistill_serve.errors import BundleError, SignatureRefused, SigningKeyError

if TYPE_CHECKING:  # an optional dependency
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_KEY_LIMIT = 16 * 1024
_READABLE_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_INSTALL = "Install it: pip install 'edgedistill-serve[sign]'."


def create_key_pair(file: Path) -> Path:
    """Write a new private key, readable by its owner only, and its public key.

    Args:
        file: File of the private key; the file of the public key has the additional suffix ``.pub``.

    Returns:
        The file of the public key.

    Raises:
        SigningKeyError: One of the files exists or cannot be written, the private key would be inside a bundle, or the
            package `cryptography` is missing.
    """
    serialization, ed25519 = _cryptography()
    public_file = file.with_name(file.name + ".pub")
    _check_outside_of_bundles(file)
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    if public_file.exists():
        raise SigningKeyError("the file exists already", where=str(public_file), hint="Choose another name.")
    _write_new(file, private, 0o600)
    _write_new(public_file, public, 0o644)
    return public_file


def sign_bundle(folder: Path, private_key: Path) -> Path:
    """Sign a bundle with a private key; an existing signature is replaced.

    Args:
        folder: Folder of a bundle that was loaded, and therefore checked.
        private_key: PEM file as written by `create_key_pair`, outside of the bundle.

    Returns:
        The file of the signature.

    Raises:
        SigningKeyError: The key cannot be used, other users can read it, or it is inside a bundle.
        BundleError: The signature cannot be written.
    """
    key = _private_key(private_key)
    _check_outside_of_bundles(private_key)
    target = folder / SIGNATURE_FILE
    try:
        replace_file(target, key.sign((folder / MANIFEST_FILE).read_bytes()))
    except OSError as error:
        raise BundleError(f"the signature cannot be written ({error})", where=str(folder)) from None
    return target


def check_signature(content: bytes, signature: bytes | None, public_key: Path, where: str) -> None:
    """Check the signature of a bundle.

    Args:
        content: The bytes of ``bundle.json``.
        signature: The bytes of ``bundle.json.sig``, or None for an unsigned bundle.
        public_key: PEM file of the public key.
        where: Name of the bundle in error messages.

    Raises:
        SignatureRefused: The bundle is not signed, or the signature does not match the content and the key.
        SigningKeyError: The key cannot be used, or every user can change it.
    """
    key = _public_key(public_key)
    from cryptography.exceptions import InvalidSignature

    if signature is None:
        raise SignatureRefused(
            "the bundle is not signed", where=where, hint="Ask its author to sign it, or omit --public-key."
        )
    try:
        key.verify(signature, content)
    except InvalidSignature:
        raise SignatureRefused(
            f"the signature does not match {public_key.name}, or {MANIFEST_FILE} was changed after signing",
            where=where,
            hint="Get the bundle or the right public key from its author; do not use this bundle.",
        ) from None


def _private_key(file: Path) -> "Ed25519PrivateKey":
    serialization, ed25519 = _cryptography()
    content = _key_content(file, _READABLE_BY_OTHERS, f"other users can read it; run: chmod 600 {file.name}")
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError:
        raise SigningKeyError(
            "the key has a passphrase", where=str(file), hint="Use a key without passphrase."
        ) from None
    except Exception:  # noqa: BLE001  # cryptography raises many types; their messages could quote the key
        raise SigningKeyError(
            "the file is not a private key in PEM format", where=str(file), hint=_key_pair_hint(file)
        ) from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise SigningKeyError("the key is not an Ed25519 key", where=str(file), hint=_key_pair_hint(file))
    private: Ed25519PrivateKey = key
    return private


def _public_key(file: Path) -> "Ed25519PublicKey":
    serialization, ed25519 = _cryptography()
    content = _key_content(file, stat.S_IWOTH, f"every user can change it; run: chmod 644 {file.name}")
    if b"PRIVATE KEY" in content:
        raise SigningKeyError(
            "this is a private key", where=str(file), hint="Use the public key, and keep this one secret."
        )
    try:
        key = serialization.load_pem_public_key(content)
    except Exception:  # noqa: BLE001  # cryptography raises many types
        raise SigningKeyError("the file is not a public key in PEM format", where=str(file)) from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise SigningKeyError("the key is not an Ed25519 key", where=str(file))
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
        raise SigningKeyError(f"the key is not safe to use: {fault}", where=str(file))
    if len(content) > _KEY_LIMIT:
        raise SigningKeyError("the file is too large for a key", where=str(file))
    return content


def _write_new(file: Path, content: bytes, mode: int) -> None:
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as opened:
            opened.write(content)
    except FileExistsError:
        raise SigningKeyError("the file exists already", where=str(file), hint="Choose another name.") from None
    except (OSError, ValueError) as error:
        raise SigningKeyError(f"the key cannot be written ({error})", where=str(file)[:200]) from None


def _check_outside_of_bundles(private_key: Path) -> None:
    if any((folder / MANIFEST_FILE).exists() for folder in private_key.absolute().resolve().parents):
        raise SigningKeyError(
            "a private key must not be inside a bundle", where=str(private_key), hint="Move it to another folder."
        )


def _key_pair_hint(file: Path) -> str:
    return f"Create one: edgedistill-serve key-pair {file.name}."


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise SigningKeyError("signatures require the package cryptography", hint=_INSTALL) from None
    return serialization, ed25519
