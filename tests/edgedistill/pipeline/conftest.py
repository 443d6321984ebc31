"""The tiny bundles of the scoring package."""

from ...serve.conftest import make_bundle, parts

__all__ = ["make_bundle", "parts"]
