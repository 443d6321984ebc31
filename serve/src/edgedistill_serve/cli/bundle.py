"""The commands `bundle pack | unpack | sign` and `key-pair`."""

from pathlib import Path

import click

from edgedistill_serve.bundle.archive import pack, unpack
from edgedistill_serve.bundle.loading import Bundle
from edgedistill_serve.bundle.signing import create_key_pair, sign_bundle
from edgedistill_serve.cli.terminal import BUNDLE, JSON, PUBLIC_KEY, write

_PRIVATE_KEY = click.option(
    "--key", required=True, type=click.Path(path_type=Path), help="Private key (PEM), readable by you only."
)


@click.group("bundle", no_args_is_help=True)
def bundle_group() -> None:
    """Pack, unpack and sign bundles."""


@bundle_group.command("pack", epilog="Example: edgedistill-serve bundle pack bundle praise.zip")
@BUNDLE
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace an existing FILE.")
@JSON
def pack_command(bundle: Path, file: Path, *, force: bool, json: bool) -> None:
    """Pack a bundle into one reproducible zip file, FILE."""
    loaded = Bundle.load(bundle)
    size = pack(loaded, file, overwrite=force)
    left_out = list(loaded.unlisted)
    if json:
        write({"file": str(file), "bytes": size, "left_out": left_out})
        return
    write(f"{file}: {size / 1e6:.1f} MB")
    if left_out:
        write(f"left out, because bundle.json does not list them: {', '.join(left_out)}")


@bundle_group.command("unpack", epilog="Example: edgedistill-serve bundle unpack praise.zip bundle")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@PUBLIC_KEY
@JSON
def unpack_command(file: Path, folder: Path, *, public_key: Path | None, json: bool) -> None:
    """Unpack FILE into FOLDER. An existing bundle is replaced after the new one is checked."""
    manifest = unpack(file, folder, public_key=public_key).manifest
    if json:
        write({"folder": str(folder), "model": manifest.name, "version": manifest.version})
        return
    write(f"{folder}: {manifest.name}, version {manifest.version}; the bundle is intact")


@bundle_group.command("sign", epilog="Example: edgedistill-serve bundle sign bundle --key maker")
@BUNDLE
@_PRIVATE_KEY
@JSON
def sign_command(bundle: Path, *, key: Path, json: bool) -> None:
    """Sign a bundle, so that `--public-key` can verify its author."""
    signature = sign_bundle(Bundle.load(bundle).folder, key)
    write({"signature": str(signature)} if json else f"signed: {signature}")


@click.command("key-pair", epilog="Example: edgedistill-serve key-pair maker")
@click.argument("out", type=click.Path(path_type=Path))
@JSON
def key_pair(out: Path, *, json: bool) -> None:
    """Create a key pair for signing: keep OUT secret, and give OUT.pub to the users of your bundles."""
    public = create_key_pair(out)
    if json:
        write({"private": str(out), "public": str(public)})
        return
    write(f"private key (keep it secret): {out}")
    write(f"public key (for users): {public}")
