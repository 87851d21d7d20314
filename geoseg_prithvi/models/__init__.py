"""Backbone, autoencoder, necks, data preprocessor, segmentor and the loading of weights."""

from .conversion import load_hls_foundation
from .data_preprocessor import HLSDataPreprocessor, read_normalization
from .geo_encoder_decoder import GeoEncoderDecoder
from .hub import current_revision, fetch_checkpoint
from .losses import MultiClassDiceLoss, SoftmaxFocalLoss
from .necks import ConvTransformerTokensToEmbeddingNeck, ProgressiveUpsample, TemporalFuse
from .prithvi_mae import PrithviMAE, load_mae_weights
from .prithvi_vit import PrithviViT
from .published import is_published, read_published, write_published
from .timm_vit import TimmViT, load_timm_weights
from .variants import VARIANTS, Variant, get_variant
from .weights import LoadReport, load_prithvi_weights

__all__ = [
    'VARIANTS',
    'ConvTransformerTokensToEmbeddingNeck',
    'GeoEncoderDecoder',
    'HLSDataPreprocessor',
    'LoadReport',
    'MultiClassDiceLoss',
    'PrithviMAE',
    'PrithviViT',
    'ProgressiveUpsample',
    'SoftmaxFocalLoss',
    'TemporalFuse',
    'TimmViT',
    'Variant',
    'current_revision',
    'fetch_checkpoint',
    'get_variant',
    'is_published',
    'load_hls_foundation',
    'load_mae_weights',
    'load_prithvi_weights',
    'load_timm_weights',
    'read_normalization',
    'read_published',
    'write_published',
]
