"""Maps of whole scenes: windows, prediction, blending, Cloud-Optimised GeoTIFF."""

from .inputs import SceneOptions, find_scenes
from .maps import MapOptions, make_map
from .predictor import predict_blocks
from .scene import Scene, SceneGrid
from .segmentor import Segmentor, build_segmentor
from .windows import Tiling

__all__ = [
    'MapOptions',
    'Scene',
    'SceneGrid',
    'SceneOptions',
    'Segmentor',
    'Tiling',
    'build_segmentor',
    'find_scenes',
    'make_map',
    'predict_blocks',
]
