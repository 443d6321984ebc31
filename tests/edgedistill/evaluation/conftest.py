"""The tiny bundles of the scoring package."""

from ...serve.conftest import make_bundle, make_novelty_bundle, parts

__all__ = ["make_bundle", "make_novelty_bundle", "parts"]
