"""Accuracy and area of a map from a sample of it, weighted by what each class covers.

After Olofsson et al. 2014, "Good practices for estimating area and assessing accuracy of land
change", Remote Sensing of Environment 148:42-57; the numbers of equations are theirs. The mapped
classes are the strata. The standard errors are right where the counted pixels are a stratified
random sample of the map; of pixels that lie together in chips they are too small.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import DataNotFoundError, ResultsError

#: Standard errors on either side of a 95 % interval, as in Olofsson et al. 2014.
Z95 = 1.96


@dataclasses.dataclass(frozen=True)
class MappedArea:
    """What each class covers on a map.

    Attributes:
        values: ``(K,)``.
        unit: ``ha``, or ``pixels`` where the map has no coordinate system.
    """

    values: np.ndarray
    unit: str


@dataclasses.dataclass(frozen=True)
class AreaAccuracy:
    """Estimates for the whole map; shares between 0 and 1, ``_se`` their standard errors.

    Attributes:
        overall: Share of the map that is right.
        overall_se: Of ``overall``.
        users: ``(K,)`` share of what is mapped as a class that is it.
        users_se: Of ``users``.
        producers: ``(K,)`` share of a class that is mapped as it.
        producers_se: Of ``producers``.
        area: ``(K,)`` what each class covers in truth, in the unit of the mapped area.
        area_se: Of ``area``.
    """

    overall: float
    overall_se: float
    users: np.ndarray
    users_se: np.ndarray
    producers: np.ndarray
    producers_se: np.ndarray
    area: np.ndarray
    area_se: np.ndarray


def area_adjusted(matrix: np.ndarray, mapped: np.ndarray) -> AreaAccuracy:
    """Estimate accuracy and area.

    nan stands for what a sample cannot tell: accuracy of a class that the map, or the reference,
    does not have, and any error that depends on a class of one counted pixel.

    Args:
        matrix: ``(K, K)`` counts, rows labels, columns predictions (as elsewhere here; Olofsson's
            matrix is the transposed one).
        mapped: ``(K,)`` area of each class on the map.
    """
    n = matrix.T.astype(float)  # rows map, columns reference
    total = mapped.sum()
    weight = mapped / total
    share, users, producers = _estimates(n, weight)
    counted = n.sum(axis=1)
    within = _ratio(n, counted[:, None])
    # A class that the map does not have is no stratum, whatever the sample says of it.
    spread = np.where(weight[:, None] > 0, _ratio(within * (1 - within), counted[:, None] - 1), 0)
    own = np.diagonal(spread)  # equation 6
    column = share * total  # N of the reference classes
    others = np.where(np.eye(len(n), dtype=bool), 0, spread)
    variance = mapped**2 * (1 - producers) ** 2 * own + producers**2 * (
        mapped**2 @ others
    )  # equation 7
    return AreaAccuracy(
        overall=float(_overall(n, weight)),
        overall_se=float(np.sqrt(np.sum(weight**2 * own))),  # equation 5
        users=users,
        users_se=np.where(weight > 0, np.sqrt(own), np.nan),
        producers=producers,
        producers_se=_ratio(np.sqrt(variance), column),
        area=column,
        area_se=total * np.sqrt(weight**2 @ spread),  # equations 10 and 11
    )


def adjusted_area(matrices: np.ndarray, mapped: np.ndarray) -> np.ndarray:
    """Estimate only the area, of ``(..., K, K)`` matrices: ``(..., K)``."""
    weight = mapped / mapped.sum()
    return _estimates(np.swapaxes(matrices, -1, -2).astype(float), weight)[0] * mapped.sum()


def read_area(path: str | Path, classes: Sequence[str]) -> MappedArea:
    """Read the area CSV that ``tools/predict.py --area`` writes.

    Args:
        path: The file.
        classes: K names that must be in it.

    Raises:
        DataNotFoundError: If there is no such file.
        ResultsError: If it is no such table, has other classes, or no area at all.
    """
    path = Path(path)
    rows = _rows(path)
    try:
        found = {row['name']: row for row in rows}
        in_hectares = all(row['hectares'] for row in rows)
        unit = 'hectares' if in_hectares else 'pixels'
        if sorted(found) != sorted(classes):
            raise ResultsError(
                f'{path} is of the classes {", ".join(found)}, but the confusion matrix of '
                f'{", ".join(classes)}; give the area of a map of the same model.'
            )
        values = np.array([float(found[name][unit]) for name in classes])
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ResultsError):
            raise
        raise ResultsError(
            f'{path} is no table of areas (class, name, pixels, hectares, share); write one with '
            'tools/predict.py --area.'
        ) from error
    if not (values >= 0).all() or not values.sum() > 0:
        raise ResultsError(f'{path} holds no area; give the area of a whole map.')
    return MappedArea(values, 'ha' if in_hectares else 'pixels')


def check_strata(matrix: np.ndarray, mapped: np.ndarray, classes: Sequence[str]) -> None:
    """Refuse a matrix that says nothing of a class that the map has.

    Raises:
        ResultsError: If a mapped class was never predicted where there are labels.
    """
    unseen = (mapped > 0) & (matrix.sum(axis=0) == 0)
    if unseen.any():
        k = int(np.argmax(np.where(unseen, mapped, 0)))
        raise ResultsError(
            f'{classes[k]} covers {100 * mapped[k] / mapped.sum():.2g} % of the map, but no pixel '
            'with a label was mapped so; nothing can be said of that part. Test on more chips.'
        )


def _estimates(n: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share of the reference classes, user's and producer's accuracy, of ``(..., K, K)``."""
    joint = _joint(n, weight)
    share = joint.sum(axis=-2)
    hit = np.diagonal(joint, axis1=-2, axis2=-1)
    return share, _ratio(hit, joint.sum(axis=-1)), _ratio(hit, share)


def _overall(n: np.ndarray, weight: np.ndarray) -> float:
    return np.trace(_joint(n, weight))


def _joint(n: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Estimated share of the map in each cell (equation 4)."""
    within = _ratio(n, n.sum(axis=-1, keepdims=True))
    return np.where(weight[:, None] > 0, weight[:, None] * within, 0)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise DataNotFoundError(
            f'{path} does not exist; write the area of a map with tools/predict.py --area.'
        )
    with path.open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))
