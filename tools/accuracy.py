"""Accuracy and area of a map with standard errors (Olofsson et al. 2014).

CONFUSION.csv is what tools/test.py writes (rows labels, columns predictions), or one of your own
sample in that form; AREA.csv what tools/predict.py --area writes for the map.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from prettytable import PrettyTable

from geoseg_prithvi.errors import report_errors
from geoseg_prithvi.evaluation.area_accuracy import area_adjusted, check_strata, read_area
from geoseg_prithvi.evaluation.report import (
    AREA_NOTE,
    area_rows,
    read_confusion_csv,
    write_area_csv,
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('confusion', type=Path, help='confusion_*.csv of tools/test.py')
    parser.add_argument('--area', type=Path, required=True, help='area CSV of tools/predict.py')
    parser.add_argument('--out', type=Path, help='write the numbers to this CSV file')
    return parser.parse_args()


@report_errors
def main() -> None:
    """Estimate and print."""
    args = parse_args()
    matrix, classes = read_confusion_csv(args.confusion)
    mapped = read_area(args.area, classes)
    check_strata(matrix, mapped.values, classes)
    found = area_adjusted(matrix, mapped.values)
    header, rows = area_rows(found, mapped, classes)
    table = PrettyTable(header, align='r')
    table.align['Class'] = 'l'
    table.add_rows(rows)
    print(f'{table}\n{AREA_NOTE}')
    if args.out is not None:
        write_area_csv(found, mapped, classes, args.out)
        print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
