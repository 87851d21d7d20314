"""Metrics and their arithmetic."""

from .confusion import Scores, confusion_matrix, mean_score, scores
from .lulc_metric import LULCMetric
from .reconstruction_metric import ReconstructionMetric

__all__ = [
    'LULCMetric',
    'ReconstructionMetric',
    'Scores',
    'confusion_matrix',
    'mean_score',
    'scores',
]
