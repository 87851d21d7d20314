"""Maps of whole scenes: windows, prediction, blending, Cloud-Optimised GeoTIFF."""

from .inputs import SceneOptions, find_scenes
from .maps import MapOptions, make_map
from .predictor import predict_blocks
from .scene import Scene, SceneGrid
from .segmentor import Segmentor, load_segmentor
from .windows import Tiling

__all__ = [
    'MapOptions',
    'Scene',
    'SceneGrid',
    'SceneOptions',
    'Segmentor',
    'Tiling',
    'find_scenes',
    'load_segmentor',
    'make_map',
    'predict_blocks',
]
