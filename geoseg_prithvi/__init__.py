"""Prithvi land-cover segmentation as a plugin of MMSegmentation.

Importing the package registers all its components, so that
``custom_imports = dict(imports=['geoseg_prithvi'])`` is all that another project writes.
"""

from .compat import prepare_stack
from .version import __version__

prepare_stack()

from . import datasets, engine, evaluation, models, visualization  # noqa: E402

__all__ = ['__version__', 'datasets', 'engine', 'evaluation', 'models', 'visualization']
