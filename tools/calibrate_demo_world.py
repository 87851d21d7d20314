"""How hard is a world for a classifier that sees one pixel at a time?

Trains a small per-pixel network on the chips of the split "train", once on one date and once on
all, and scores it on "test". The better of plain and class-balanced loss counts. With WORLD the
chips are cut first, as the demo does, but with whole tiles held out.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import rasterio
import torch
from torch import nn

from geoseg_prithvi.data.chips import ChipOptions
from geoseg_prithvi.data.frames import equal_windows
from geoseg_prithvi.data.granules import find_granules
from geoseg_prithvi.data.prepare import prepare
from geoseg_prithvi.data.splits import SplitOptions
from geoseg_prithvi.errors import ConfigError, report_errors
from geoseg_prithvi.hls import BANDS, FILL
from geoseg_prithvi.lulc import IGNORE, IO_LULC

CHIP_SIZE = 64
HIDDEN, STEPS, BATCH = 64, 2500, 4096


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('world', nargs='?', type=Path, help='folder of tools/make_demo_data.py')
    parser.add_argument('--chips', type=Path, help='chips that are there already')
    parser.add_argument('--seed', type=int, default=0, help='of the network (default: 0)')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads (default: 1)')
    return parser.parse_args()


def read_pixels(chips: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Read all labelled pixels of a split: ``(N, T*C)`` int16 and class indices ``(N,)``."""
    index = pq.read_table(chips / 'chips.parquet', columns=['image', 'label', 'split']).to_pylist()
    images, labels = [], []
    for row in index:
        if row['split'] == split:
            with (
                rasterio.open(chips / row['image']) as image,
                rasterio.open(chips / row['label']) as label,
            ):
                classes = label.read(1)
                images.append(image.read()[:, classes != IGNORE].T)
                labels.append(classes[classes != IGNORE])
    if not images:
        raise ConfigError(f'{chips} has no chip in the split {split}; cut more chips.')
    return np.concatenate(images), np.concatenate(labels)


def per_pixel_ious(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    balanced: bool,
    seed: int,
) -> np.ndarray:
    """Train a network of two hidden layers to convergence; return the ``(K,)`` test IoUs."""
    classes = len(IO_LULC)
    torch.manual_seed(seed)
    valid = np.where(train[0] == FILL, np.nan, train[0].astype(np.float32))
    mean, std = np.nanmean(valid, axis=0), np.nanstd(valid, axis=0)
    del valid

    def tensor(pixels: np.ndarray) -> torch.Tensor:
        scaled = (pixels.astype(np.float32) - mean) / std
        return torch.from_numpy(np.where(pixels == FILL, np.float32(0), scaled))

    x, y = tensor(train[0]), torch.from_numpy(train[1].astype(np.int64))
    network = nn.Sequential(
        nn.Linear(x.shape[1], HIDDEN),
        nn.GELU(),
        nn.Linear(HIDDEN, HIDDEN),
        nn.GELU(),
        nn.Linear(HIDDEN, classes),
    )
    counts = torch.bincount(y, minlength=classes).float().clamp(min=1)
    weight = counts.rsqrt() / counts.rsqrt().mean() if balanced else None
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        pick = torch.randint(len(x), (BATCH,))
        loss = nn.functional.cross_entropy(network(x[pick]), y[pick], weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        predicted = torch.cat([network(part).argmax(1) for part in tensor(test[0]).split(1 << 16)])
    pairs = test[1].astype(np.int64) * classes + predicted.numpy()
    confusion = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    union = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    return confusion.diagonal() / np.maximum(union, 1)


def calibrate(chips: Path, seed: int) -> None:
    """Print the class shares and the per-pixel scores."""
    train, test = read_pixels(chips, 'train'), read_pixels(chips, 'test')
    bands, frames = len(BANDS), train[0].shape[1] // len(BANDS)
    middle = slice(frames // 2 * bands, (frames // 2 + 1) * bands)
    columns = {
        'share': np.bincount(np.concatenate([train[1], test[1]]), minlength=len(IO_LULC))
        / (len(train[1]) + len(test[1]))
    }
    for name, part in (('1 date', middle), (f'{frames} dates', slice(None))):
        runs = {
            loss: per_pixel_ious(
                (train[0][:, part], train[1]), (test[0][:, part], test[1]), loss == 'balanced', seed
            )
            for loss in ('plain', 'balanced')
        }
        best = max(runs, key=lambda loss: runs[loss].mean())
        columns[f'{name}, {best}'] = runs[best]
    print(f'{len(train[1])} training and {len(test[1])} test pixels')
    print(f'| class | {" | ".join(columns)} |\n|---|{"---:|" * len(columns)}')
    for i, name in enumerate(IO_LULC.names):
        print(f'| {name} | {" | ".join(f"{column[i]:.3f}" for column in columns.values())} |')
    means = [f'{column.mean():.3f}' for column in columns.values()][1:]
    print(f'| **mean** | | {" | ".join(means)} |')


@report_errors
def main() -> None:
    """Run the command."""
    args = parse_args()
    if (args.world is None) == (args.chips is None):
        raise ConfigError('Give either the folder of a world or --chips with a folder of chips.')
    torch.set_num_threads(args.threads)
    if args.chips:
        calibrate(args.chips, args.seed)
        return
    tiles = sorted(find_granules(args.world / 'granules'))
    with tempfile.TemporaryDirectory() as folder:
        prepare(
            args.world / 'granules',
            args.world / 'labels',
            folder,
            ChipOptions(windows=equal_windows(3), chip_size=CHIP_SIZE),
            SplitOptions(
                block_size=3 * CHIP_SIZE * 30.0, ratio=(1.0, 0.0, 0.0), test_tiles=tuple(tiles[::4])
            ),
            workers=args.threads,
        )
        calibrate(Path(folder), args.seed)


if __name__ == '__main__':
    main()
