"""The arithmetic of segmentation scores on one confusion matrix; framework-free, exact.

Rows are the labels (reference), columns the predictions, as in scikit-learn. Counts are int64 and
add up over samples, ranks and scenes.

A score that is not defined is nan and left out of the mean: IoU and F1 of a class that neither
labels nor predictions hold, precision of one never predicted, recall of one never labelled. A class
that only the predictions hold has IoU and F1 of 0, which count: inventing it is an error.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ..errors import ConfigError, LabelError
from ..lulc import IGNORE


def confusion_matrix(
    label: np.ndarray,
    prediction: np.ndarray,
    num_classes: int,
    *,
    ignore_index: int = IGNORE,
    source: object = 'the label',
) -> np.ndarray:
    """Count the pixels of each pair of label and prediction.

    Args:
        label: Class indices, any shape; pixels of ``ignore_index`` are left out.
        prediction: Class indices, same shape.
        num_classes: Number of classes K.
        ignore_index: Label of the pixels that do not count.
        source: The file the label comes from, for the messages.

    Returns:
        ``(K, K)`` int64: rows labels, columns predictions.

    Raises:
        LabelError: If a label is neither a class nor ``ignore_index``, or the shapes differ.
        ConfigError: If a prediction is no class.
    """
    if label.shape != prediction.shape:
        raise LabelError(
            f'{source} has the shape {label.shape}, but its prediction {prediction.shape}; check '
            'the transforms of the test pipeline.'
        )
    counted = label != ignore_index
    label = label[counted].astype(np.int64)
    prediction = prediction[counted].astype(np.int64)
    unknown = np.unique(label[(label < 0) | (label >= num_classes)])
    if unknown.size:
        raise LabelError(
            f'{source} holds the class(es) {unknown.tolist()}, but there are {num_classes} classes '
            f'(0 to {num_classes - 1}) and {ignore_index} for pixels without label.'
        )
    if prediction.size and (prediction.min() < 0 or prediction.max() >= num_classes):
        raise ConfigError(
            f'The model predicts class {prediction.max()}, but the dataset has {num_classes} '
            'classes; check num_classes of the decode head.'
        )
    pairs = label * num_classes + prediction
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores of one confusion matrix, shares between 0 and 1.

    Attributes:
        iou: ``(K,)`` intersection over union.
        f1: ``(K,)`` harmonic mean of precision and recall (the Dice score).
        precision: ``(K,)`` share of the predicted pixels that are right (user's accuracy).
        recall: ``(K,)`` share of the labelled pixels that are found (producer's accuracy).
        support: ``(K,)`` int64, labelled pixels.
        accuracy: Share of all pixels that are right (overall accuracy).
    """

    iou: np.ndarray
    f1: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    support: np.ndarray
    accuracy: float


def scores(matrix: np.ndarray) -> Scores:
    """Compute the scores of a ``(K, K)`` confusion matrix (rows labels, columns predictions)."""
    hit = np.diagonal(matrix)
    labelled = matrix.sum(axis=1)
    predicted = matrix.sum(axis=0)
    return Scores(
        iou=_ratio(hit, labelled + predicted - hit),
        f1=_ratio(2 * hit, labelled + predicted),
        precision=_ratio(hit, predicted),
        recall=_ratio(hit, labelled),
        support=labelled,
        accuracy=float(_ratio(hit.sum(), matrix.sum())),
    )


def mean_score(values: np.ndarray) -> float:
    """Mean over the classes that have a score; nan if none has."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else float('nan')


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, nan where ``whole`` is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
