"""Metrics and their arithmetic."""

from .confusion import Scores, confusion_matrix, mean_score, scores
from .lulc_metric import LULCMetric

__all__ = ['LULCMetric', 'Scores', 'confusion_matrix', 'mean_score', 'scores']
