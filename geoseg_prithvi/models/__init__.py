"""Backbone, autoencoder, necks, segmentor and the loading of weights."""

from .prithvi_vit import PrithviViT
from .variants import VARIANTS, Variant, get_variant
from .weights import LoadReport, load_prithvi_weights

__all__ = [
    'VARIANTS',
    'LoadReport',
    'PrithviViT',
    'Variant',
    'get_variant',
    'load_prithvi_weights',
]
