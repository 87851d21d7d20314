"""The report of a label-efficiency study: tables, figures, and one page of all of them."""

from __future__ import annotations

import base64
import csv
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from ..data.files import write_bytes
from .study_figures import class_figure, label_efficiency_figure, learning_figure
from .study_scores import (
    Difference,
    StudyScores,
    Summary,
    paired_differences,
    read_curves,
    read_scores,
    summarize,
)

#: Test mIoU in percent of "Finetuning the Geospatial Foundation Model for Land Cover Mapping"
#: (Fragile Earth workshop, KDD 2024): model, mIoU with all training chips and with 12.5 %.
PUBLISHED = (
    ('Prithvi, fine-tuned', '62.37', '37'),
    ('Prithvi, pre-trained', '46.8', ''),
    ('ViT, natural images', '46.8', ''),
    ('U-Net', '36.36', ''),
)

#: Resolution of the PNG files.
_DPI = 200


def write_report(
    results: Path,
    curves: Path,
    out_dir: Path,
    title: str,
    baseline: str | None,
    show_seeds: bool,
) -> list[Path]:
    """Write tables, figures and ``report.html``.

    Runs that are not in ``results`` are left out of means and intervals, and the page says how many
    seeds each number has.

    Args:
        results: ``results.csv``: a row a run, scores in percent.
        curves: ``curves.csv``: a row a validation.
        out_dir: Where all files go.
        title: Heading of the page.
        baseline: The experiment that the others are compared with; ``None`` for no comparison.
        show_seeds: Draw a point for each run in the main figure.

    Returns:
        The files, the page last.

    Raises:
        DataNotFoundError: If a table does not exist or has no run.
        ResultsError: If a table is damaged.
        OutputWriteError: If the disk does not take the files.
    """
    scores = read_scores(results)
    learning = read_curves(curves, scores)
    differences = paired_differences(scores, baseline) if baseline in scores.experiments else None
    figures = {'label_efficiency': label_efficiency_figure(scores, show_seeds=show_seeds)}
    if learning:
        figures['learning_speed'] = learning_figure(scores, learning)
    if scores.classes:
        figures['class_iou'] = class_figure(scores)

    files = {
        out_dir / 'summary.csv': _csv(_summary_rows(scores)),
        out_dir / 'summary.md': _markdown(title, scores).encode(),
    }
    if differences is not None:
        files[out_dir / 'differences.csv'] = _csv(_difference_rows(differences, baseline))
    for name, figure in figures.items():
        for kind in ('png', 'pdf'):
            files[out_dir / f'{name}.{kind}'] = _drawn(figure, kind)
    page = _page(title, scores, differences, baseline, figures, show_seeds=show_seeds)
    files[out_dir / 'report.html'] = page.encode()
    for path, content in files.items():
        write_bytes(path, content)
    return list(files)


def _summary_rows(scores: StudyScores) -> list[list[Any]]:
    summaries = {name: summarize(values) for name, values in scores.metrics.items()}
    heads = [f'{name}_{what}' for name in summaries for what in ('mean', 'sigma')]
    rows: list[list[Any]] = [['experiment', 'label', 'fraction', 'num_chips', 'n', *heads]]
    for e, f in np.ndindex(len(scores.experiments), len(scores.fractions)):
        numbers = [float(values[e, f]) for s in summaries.values() for values in (s.mean, s.sigma)]
        start = [scores.experiments[e], scores.labels[e], scores.fractions[f], scores.chips[f]]
        rows.append([*start, int(summaries['mIoU'].n[e, f]), *numbers])
    return rows


def _difference_rows(differences: Iterable[Difference], baseline: str | None) -> list[list[Any]]:
    head = ['experiment', 'baseline', 'fraction', 'n', 'mean_difference', 'ci95_low', 'ci95_high']
    rows = [[d.experiment, baseline, d.fraction, d.n, d.mean, d.low, d.high] for d in differences]
    return [head, *rows]


def _markdown(title: str, scores: StudyScores) -> str:
    head, *rows = _summary_table(scores)
    lines = [head, ['---', *(['---:'] * (len(head) - 1))], *rows]
    table = '\n'.join(f'| {" | ".join(cell.replace("|", "/") for cell in row)} |' for row in lines)
    return f'# {title}\n\n{_summary_caption(scores)}\n\n{table}\n'


def _summary_table(scores: StudyScores) -> list[list[str]]:
    summary = summarize(scores.metrics['mIoU'])
    heads = [
        f'{_percent(fraction)} ({chips} chips)'
        for fraction, chips in zip(scores.fractions, scores.chips, strict=True)
    ]
    rows = [
        [label, *(_cell(summary, e, f) for f in range(len(scores.fractions)))]
        for e, label in enumerate(scores.labels)
    ]
    return [['Model', *heads], *rows]


def _summary_caption(scores: StudyScores) -> str:
    n = summarize(scores.metrics['mIoU']).n
    if n.max() == 1:
        return 'Test mIoU in percent, by share of the training data. One seed each: no sigma.'
    seeds = (
        f'{n.max()} seeds' if n.min() == n.max() else f'{n.min()} to {n.max()} seeds (in brackets)'
    )
    alone = ' One seed has no sigma.' if (n == 1).any() else ''
    return (
        f'Test mIoU in percent, mean ± sigma of {seeds}, by share of the training data. Sigma is '
        f'the sample standard deviation.{alone}'
    )


def _cell(summary: Summary, e: int, f: int) -> str:
    n = summary.n[e, f]
    if not n:
        return 'no run'
    sigma = '' if n == 1 else f' ± {summary.sigma[e, f]:.2f}'
    count = '' if summary.n.min() == summary.n.max() else f' ({n})'
    return f'{summary.mean[e, f]:.2f}{sigma}{count}'


def _percent(fraction: float) -> str:
    return f'{100 * fraction:.4g} %'


def _csv(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows(rows)
    return text.getvalue().encode()


def _drawn(figure: Figure, kind: str) -> bytes:
    buffer = io.BytesIO()
    # Without date and random names, so that the same tables give the same files.
    undated = {'pdf': {'CreationDate': None}, 'svg': {'Date': None}, 'png': {}}[kind]
    with rc_context({'svg.hashsalt': 'geoseg_prithvi'}):
        figure.savefig(buffer, format=kind, metadata=undated, dpi=_DPI)
    return buffer.getvalue()


def _page(
    title: str,
    scores: StudyScores,
    differences: Sequence[Difference] | None,
    baseline: str | None,
    figures: Mapping[str, Figure],
    *,
    show_seeds: bool,
) -> str:
    n = summarize(scores.metrics['mIoU']).n
    spread = 'One seed each: no band.'
    if n.max() > 1:
        one = ' A point of one seed has no band.' if (n == 1).any() else ''
        spread = f'Line or point: mean over the seeds. Band or bar: one sigma.{one}'
    points = ' Small open points: single runs.' if show_seeds else ''
    caption = {
        'label_efficiency': f'{spread}{points}',
        'learning_speed': f'{spread} Scored on the validation chips while training.',
        'class_iou': 'Bars: mean over the seeds; lines: one sigma. n/a: not defined in any run.',
    }
    drawn = {
        name: f'<figure>{_image(figure, name)}<figcaption>{caption[name]}</figcaption></figure>'
        for name, figure in figures.items()
    }
    template = Template(Path(__file__).with_name('study_page.html').read_text(encoding='utf-8'))
    return template.substitute(
        title=html.escape(title),
        facts=html.escape(
            f'{_count(len(scores.labels), "model")}, '
            f'{_count(len(scores.fractions), "share")} of the training data, '
            f'{_count(len(scores.seeds), "seed")}: {_count(scores.num_runs, "finished run")}.'
        ),
        missing=_missing(scores),
        efficiency=drawn['label_efficiency'],
        summary=_table(_summary_table(scores), _summary_caption(scores)),
        differences=_difference_section(scores, differences, baseline),
        learning=drawn.get('learning_speed', '<p>No run was validated while training.</p>'),
        classes=drawn.get('class_iou', '<p>The runs have no scores per class.</p>'),
        published=_published(scores),
    )


def _count(number: int, noun: str) -> str:
    return f'{number} {noun}{"" if number == 1 else "s"}'


def _missing(scores: StudyScores) -> str:
    lost = scores.metrics['mIoU'].size - scores.num_runs
    if not lost:
        return ''
    return (
        f'<p><strong>{_count(lost, "run")} missing</strong> of the '
        f'{scores.metrics["mIoU"].size} that these models, shares and seeds make; means and '
        'intervals are of those that are there.</p>'
    )


def _image(figure: Figure, name: str) -> str:
    data = base64.b64encode(_drawn(figure, 'svg')).decode()
    return f'<img alt="{name.replace("_", " ")}" src="data:image/svg+xml;base64,{data}">'


def _table(rows: Sequence[Sequence[str]], caption: str, clear: Sequence[bool] | None = None) -> str:
    """An HTML table; the first row is its head, and ``clear`` rows are bold."""
    head = ''.join(f'<th>{html.escape(cell)}</th>' for cell in rows[0])
    body = ''
    for i, row in enumerate(rows[1:]):
        cells = ''.join(f'<td>{html.escape(cell)}</td>' for cell in row)
        body += f'<tr{" class=clear" if clear and clear[i] else ""}>{cells}</tr>'
    return (
        f'<div class="scroll"><table><caption>{html.escape(caption)}</caption>'
        f'<tr>{head}</tr>{body}</table></div>'
    )


def _difference_section(
    scores: StudyScores, differences: Sequence[Difference] | None, baseline: str | None
) -> str:
    if baseline is None:
        return '<p>No baseline was named, so nothing is compared.</p>'
    if differences is None:
        return f'<p>The baseline {html.escape(baseline)} has no finished run to compare with.</p>'
    if not differences:
        return '<p>No other model has a run with a seed of the baseline.</p>'
    rows = [['Model', 'Training data', 'Difference', '95 % interval', 'Pairs']]
    for d in differences:
        interval = 'one pair: none' if d.n == 1 else f'{d.low:+.2f} to {d.high:+.2f}'
        rows.append([d.label, _percent(d.fraction), f'{d.mean:+.2f}', interval, str(d.n)])
    name = scores.labels[scores.experiments.index(baseline)]
    return _table(
        rows,
        f'Test mIoU minus that of "{name}", in points, paired by seed; Student\'s t interval of '
        'the mean difference. Bold: the interval leaves out zero. Each interval is of one '
        'comparison; with many of them, some leave out zero by chance.',
        [d.is_clear for d in differences],
    )


def _published(scores: StudyScores) -> str:
    summary = summarize(scores.metrics['mIoU'])
    ends = list(dict.fromkeys((0, len(scores.fractions) - 1)))
    head = ['mIoU (%)', *(_percent(scores.fractions[f]) for f in ends)]
    own = [[label, *(_cell(summary, e, f) for f in ends)] for e, label in enumerate(scores.labels)]
    return _table([head, *own], 'These runs') + _table(
        [['mIoU (%)', '100 %', '12.5 %'], *PUBLISHED],
        'Published: HLS, 565 chips of 224 x 224 px in all',
    )
