"""Hectares of each class."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from ..lulc import Legend
from .scene import SceneGrid

#: Semi-axes of the WGS 84 ellipsoid in metres.
WGS84_A, WGS84_B = 6378137.0, 6356752.314245
SQUARE_METRES_PER_HECTARE = 10_000


def pixel_hectares(grid: SceneGrid) -> np.ndarray | None:
    """Return the area of a pixel in each row, ``(height,)`` hectares.

    In a projected system it is the area on the map: UTM stretches it by -0.08 to +0.2 % within
    its zone. In degrees it is the area on the WGS 84 ellipsoid.

    Returns:
        ``None`` if the scene has no coordinate system, or is in degrees and not north-up.
    """
    if grid.crs is None:
        return None
    a, b, _, d, e, f = grid.transform[:6]
    if grid.crs.is_projected:
        metres = grid.crs.linear_units_factor[1]
        area = abs(a * e - b * d) * metres**2 / SQUARE_METRES_PER_HECTARE
        return np.full(grid.height, area)
    if b or d:
        return None
    edges = np.radians(f + e * np.arange(grid.height + 1))
    areas = np.abs(np.diff(_area_south_of(edges))) * np.radians(abs(a))
    return areas / SQUARE_METRES_PER_HECTARE


def _area_south_of(latitude: np.ndarray) -> np.ndarray:
    """Area between the equator and a latitude, for each radian of longitude, in square metres.

    Snyder, Map Projections (USGS Professional Paper 1395), equation 3-12.
    """
    e = np.sqrt(1 - (WGS84_B / WGS84_A) ** 2)
    sine = np.sin(latitude)
    return (
        WGS84_A**2
        * (1 - e**2)
        / 2
        * (sine / (1 - (e * sine) ** 2) - np.log((1 - e * sine) / (1 + e * sine)) / (2 * e))
    )


def class_hectares(counts: np.ndarray, grid: SceneGrid) -> np.ndarray | None:
    """Return ``(K,)`` hectares from ``(height, K)`` pixels of each class in each row."""
    area = pixel_hectares(grid)
    return None if area is None else area @ counts


def write_area(path: Path, counts: np.ndarray, grid: SceneGrid, legend: Legend) -> None:
    """Write hectares and shares of the classes as CSV.

    Args:
        path: The file.
        counts: ``(height, K)`` pixels of each class in each row.
        grid: The grid of the map.
        legend: The classes.
    """
    hectares = class_hectares(counts, grid)
    pixels = counts.sum(axis=0)
    total = max(int(pixels.sum()), 1)
    with path.open('w', newline='', encoding='utf-8') as file:
        table = csv.writer(file)
        table.writerow(['class', 'name', 'pixels', 'hectares', 'share'])
        for k, name in enumerate(legend.names):
            area = '' if hectares is None else f'{hectares[k]:.4f}'
            table.writerow([k, name, pixels[k], area, f'{pixels[k] / total:.6f}'])
