"""False-colour composites, class maps and panels."""

from .composites import FALSE_COLOR, colorize, false_color
from .panel import draw_panel, legend_patches

__all__ = ['FALSE_COLOR', 'colorize', 'draw_panel', 'false_color', 'legend_patches']
