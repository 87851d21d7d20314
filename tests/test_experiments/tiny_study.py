"""Study files with models that train in seconds."""

import pprint
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRITHVI, UNET = (ROOT / f'configs/demo/{name}_lulc.py' for name in ('prithvi', 'unet'))

SMALL = {
    'model.backbone.arch.embed_dims': 32,
    'model.backbone.arch.depth': 1,
    'model.backbone.arch.num_heads': 2,
    'model.neck.0.in_channels': [96],
}
SMALL_UNET = {'model.backbone.base_channels': 8, 'model.decode_head.in_channels': 8}


def data_options(chips):
    """Read ``chips`` in the main process, two at a time."""
    options = {'train_dataloader.batch_size': 2}
    for phase in ('train', 'val', 'test'):
        options[f'{phase}_dataloader.dataset.data_root'] = str(chips)
        options[f'{phase}_dataloader.num_workers'] = 0
        options[f'{phase}_dataloader.persistent_workers'] = False
    return options


def tiny_study(chips, **changes):
    """The content of a study file: two models, two fractions, one seed."""
    return {
        'title': 'Tiny',
        'iterations': 4,
        'validations': 2,
        'fractions': [1.0, 0.5],
        'seeds': [0],
        'cfg_options': data_options(chips),
        'experiments': {
            'prithvi': dict(label='Prithvi', config=str(PRITHVI), cfg_options=SMALL),
            'unet': dict(label='U-Net', config=str(UNET), cfg_options=SMALL_UNET),
        },
        **changes,
    }


def write_study(path, content):
    """Write a study file, as Python."""
    lines = [f'{key} = {pprint.pformat(value)}' for key, value in content.items()]
    path.write_text('\n'.join(lines) + '\n')
    return path
