"""What the data loader runs: the dataset, the loading transforms, the samplers."""

from .hls_seg_dataset import HLSSegDataset
from .rare_class_crop import RareClassCrop
from .samplers import ClassBalancedSampler
from .transforms import LoadHLSChip, LoadHLSLabel

__all__ = [
    'ClassBalancedSampler',
    'HLSSegDataset',
    'LoadHLSChip',
    'LoadHLSLabel',
    'RareClassCrop',
]
