"""Hooks, optimiser wrapper and constructor, and the start of a run."""

from .bf16 import BFloat16OptimWrapper
from .layer_decay import ViTLayerDecayConstructor
from .reconstruction_hook import MAEVisualizationHook
from .visualization_hook import HLSVisualizationHook

__all__ = [
    'BFloat16OptimWrapper',
    'HLSVisualizationHook',
    'MAEVisualizationHook',
    'ViTLayerDecayConstructor',
]
