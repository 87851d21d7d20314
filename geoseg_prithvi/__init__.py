"""Prithvi land-cover segmentation as a plugin of MMSegmentation."""

from .version import __version__

__all__ = ['__version__']
