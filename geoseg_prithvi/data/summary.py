"""The table at the end of ``prepare_data.py``."""

from __future__ import annotations

import os

import numpy as np
from rich.console import Console
from rich.table import Table

from ..lulc import IO_LULC, Legend
from .index import SPLITS
from .prepare import Outcome


def print_summary(
    outcome: Outcome,
    out: str | os.PathLike[str],
    *,
    legend: Legend = IO_LULC,
    console: Console | None = None,
) -> None:
    """Print chips and class shares of each split, and why cells gave no chip.

    Args:
        outcome: What :func:`geoseg_prithvi.data.prepare.prepare` returned.
        out: The chip folder.
        legend: The classes.
        console: Where to; standard output by default.
    """
    console = console or Console()
    counts = {split: np.zeros(len(legend), np.int64) for split in SPLITS}
    chips = dict.fromkeys(SPLITS, 0)
    for row in outcome.rows:
        counts[row['split']] += row['class_pixels']
        chips[row['split']] += 1

    labelled = any(count.any() for count in counts.values())
    table = Table(title=f'{len(outcome.rows)} chips in {out}', show_footer=True)
    table.add_column('class (share of labelled pixels)' if labelled else '', footer='chips')
    for split in SPLITS:
        table.add_column(split, justify='right', footer=f'{chips[split]}')
    for index, name in enumerate(legend.names if labelled else ()):
        shares = (_percent(counts[split][index], counts[split].sum()) for split in SPLITS)
        table.add_row(name, *shares)
    console.print(table)

    reasons = [f'{count} {reason}' for reason, count in outcome.skipped.items() if count]
    console.print(f'cells without a chip: {", ".join(reasons) or "none"}', highlight=False)
    for sentence in outcome.without_chips:
        console.print(f'{sentence}.', highlight=False, soft_wrap=True)
    if outcome.damaged:
        console.print(
            f'{len(outcome.damaged)} damaged granule(s) left out where it mattered:',
            highlight=False,
        )
        for sentence in outcome.damaged.values():
            console.print(f'  {sentence}', highlight=False, soft_wrap=True)
    if outcome.resumed:
        console.print(
            f'{outcome.resumed} of {outcome.tasks} tiles were finished by an earlier run.',
            highlight=False,
        )


def _percent(part: int, whole: int) -> str:
    return f'{100 * part / whole:.2f} %' if whole else '-'
