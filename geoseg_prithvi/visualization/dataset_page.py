"""The charts of a chip folder, and one self-contained HTML page of them."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import dates as mdates
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator
from PIL import Image

from .contact_sheet import SPLIT_COLORS

#: Above so many chips the map in the page is a picture instead of lines.
MAX_VECTORS = 3000
#: Colours of the frames, early to late.
_FRAME_COLORS = ('#4477aa', '#66ccee', '#228833', '#ccbb44', '#ee6677', '#aa3377')

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:1080px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}
p{margin:.3rem 0}.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));
gap:1rem}figure{margin:0}svg,img{max-width:100%;height:auto}
table{border-collapse:collapse}td,th{padding:.15rem .8rem;text-align:right}
th{border-bottom:1px solid #888}td:first-child,th:first-child{text-align:left}
.swatch{display:inline-block;width:1em;height:1em;vertical-align:-.15em;margin-right:.5em;
border:1px solid #777}
"""


def class_chart(split_pixels: Mapping[str, np.ndarray], classes: Sequence[str]) -> Figure:
    """Draw the share of each class in each split.

    Args:
        split_pixels: Split -> ``(K,)`` pixels.
        classes: Names of the K classes.
    """
    figure = Figure(figsize=(6, 0.6 + 0.34 * len(classes)), layout='constrained')
    axis = figure.subplots()
    thickness = 0.8 / max(1, len(split_pixels))
    for rank, (split, pixels) in enumerate(split_pixels.items()):
        share = 100 * pixels / max(1, pixels.sum())
        place = np.arange(len(classes)) + (rank - (len(split_pixels) - 1) / 2) * thickness
        axis.barh(place, share, thickness * 0.9, color=SPLIT_COLORS.get(split, '0.5'), label=split)
    # Linear up to 1 %, so that rare and absent classes can be told apart.
    axis.set_xscale('symlog', linthresh=1)
    axis.set_xlim(0, 100)
    axis.set_xticks([0, 0.5, 1, 2, 5, 10, 20, 50, 100])
    axis.xaxis.set_major_formatter('{x:g} %')
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_yticks(range(len(classes)), classes)
    axis.invert_yaxis()
    axis.set_title('share of the labelled pixels')
    return _finish(figure, axis, legend=True)


def date_chart(dates: np.ndarray) -> Figure:
    """Draw when the frames were taken, ``(N, T)`` ``datetime64[D]``: chips per month."""
    figure = Figure(figsize=(6, 3), layout='constrained')
    axis = figure.subplots()
    months = dates.astype('datetime64[M]')
    span = np.arange(months.min(), months.max() + 1)
    base = np.zeros(len(span))
    for frame in range(dates.shape[1]):
        counts = (months[:, frame, None] == span).sum(axis=0)
        color = _FRAME_COLORS[frame % len(_FRAME_COLORS)]
        axis.bar(
            span.astype('datetime64[D]'), counts, 26, bottom=base, align='edge', color=color,
            label=f'frame {frame}',
        )  # fmt: skip
        base += counts
    axis.xaxis.set_major_locator(mdates.AutoDateLocator(maxticks=12))
    axis.xaxis.set_major_formatter(mdates.ConciseDateFormatter(axis.xaxis.get_major_locator()))
    axis.set_title('dates: chips per month')
    return _finish(figure, axis, legend=dates.shape[1] > 1)


def clear_chart(clear: np.ndarray) -> Figure:
    """Draw the clear share of the frames, ``(N, T)``, NaN where it is not known."""
    figure = Figure(figsize=(6, 3), layout='constrained')
    axis = figure.subplots()
    known = ~np.isnan(clear).any(axis=1)
    axis.set_title('clear share of the pixels of a frame: chips')
    if not known.any():
        axis.text(0.5, 0.5, 'not known (no Fmask)', ha='center', transform=axis.transAxes)
        axis.set_axis_off()
        return figure
    bins = np.linspace(0, 100, 21)
    for frame in range(clear.shape[1]):
        color = _FRAME_COLORS[frame % len(_FRAME_COLORS)]
        axis.hist(
            100 * clear[known, frame], bins, histtype='step', linewidth=1.8, color=color,
            label=f'frame {frame}',
        )  # fmt: skip
    axis.set_xlim(0, 100)
    axis.xaxis.set_major_formatter('{x:g} %')
    return _finish(figure, axis, legend=clear.shape[1] > 1)


def footprint_chart(rings: np.ndarray, splits: np.ndarray) -> Figure:
    """Draw a map of the chips.

    Args:
        rings: ``(N, 5, 2)`` outlines, longitude and latitude in degrees.
        splits: ``(N,)`` names.
    """
    west, south = rings.reshape(-1, 2).min(axis=0)
    east, north = rings.reshape(-1, 2).max(axis=0)
    stretch = 1 / np.cos(np.radians((south + north) / 2))  # a degree of latitude against longitude
    ratio = stretch * (north - south) / (east - west)
    figure = Figure(figsize=(6, float(np.clip(5.2 * ratio + 0.8, 2.5, 8))), layout='constrained')
    axis = figure.subplots()
    for split, color in SPLIT_COLORS.items():
        collection = PolyCollection(
            rings[splits == split], facecolor=color, edgecolor='white', linewidth=0.3
        )
        collection.set_rasterized(len(rings) > MAX_VECTORS)
        axis.add_collection(collection)
    margin = 0.03 * max(east - west, north - south)
    axis.set_xlim(west - margin, east + margin)
    axis.set_ylim(south - margin, north + margin)
    axis.set_aspect(stretch)
    axis.xaxis.set_major_formatter('{x:g}°')
    axis.yaxis.set_major_formatter('{x:g}°')
    axis.set_title('footprints')
    present = [split for split in SPLIT_COLORS if (splits == split).any()]
    axis.legend(
        handles=[Patch(color=SPLIT_COLORS[split], label=split) for split in present],
        loc='upper left', bbox_to_anchor=(1, 1), frameon=False,
    )  # fmt: skip
    return figure


def build_page(
    title: str,
    facts: Sequence[tuple[str, str]],
    split_pixels: Mapping[str, np.ndarray],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    charts: Sequence[Figure],
    contact_sheet: np.ndarray,
) -> str:
    """Put all on one page that needs no other file.

    Args:
        title: Heading.
        facts: Name and value of what is said in words.
        split_pixels: Split -> ``(K,)`` pixels.
        classes: Names of the K classes.
        palette: ``(R, G, B)`` of each class, 0..255.
        charts: Drawn as SVG.
        contact_sheet: ``(H, W, 3)`` uint8.

    Returns:
        The HTML document.
    """
    said = ''.join(f'<p>{html.escape(k)}: <b>{html.escape(v)}</b></p>' for k, v in facts)
    drawn = ''.join(f'<figure>{_svg(chart)}</figure>' for chart in charts)
    buffer = io.BytesIO()
    Image.fromarray(contact_sheet).save(buffer, 'PNG', optimize=True)
    picture = base64.b64encode(buffer.getvalue()).decode()
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>'
        f'<h1>{html.escape(title)}</h1>\n{said}\n'
        f'<h2>Classes</h2>\n{_class_table(split_pixels, classes, palette)}\n'
        f'<h2>Charts</h2>\n<div class="charts">{drawn}</div>\n'
        '<h2>Chips</h2>\n<img alt="contact sheet of chips" '
        f'src="data:image/png;base64,{picture}">\n</body></html>\n'
    )


def _class_table(
    split_pixels: Mapping[str, np.ndarray],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
) -> str:
    head = ''.join(f'<th>{html.escape(split)}</th>' for split in split_pixels)
    rows = []
    for index, (name, color) in enumerate(zip(classes, palette, strict=True)):
        shares = ''.join(
            f'<td>{100 * pixels[index] / max(1, pixels.sum()):.2f} %</td>'
            for pixels in split_pixels.values()
        )
        swatch = f'<span class="swatch" style="background:rgb{tuple(color)}"></span>'
        rows.append(f'<tr><td>{swatch}{html.escape(name)}</td>{shares}</tr>')
    return f'<table><tr><th>class</th>{head}</tr>{"".join(rows)}</table>'


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    # Without date and random names, so that the same chips give the same page.
    with rc_context({'svg.hashsalt': 'geoseg_prithvi'}):
        figure.savefig(buffer, format='svg', metadata={'Date': None}, dpi=110)
    text = buffer.getvalue()
    return text[text.index('<svg') :]


def _finish(figure: Figure, axis: Axes, *, legend: bool) -> Figure:
    axis.spines[['top', 'right']].set_visible(False)
    if legend:
        figure.legend(loc='outside upper right', ncols=6, frameon=False, fontsize=8)
    return figure
