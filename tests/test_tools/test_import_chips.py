"""The two public chip layouts, imported and served by ``HLSSegDataset``."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geoseg_prithvi.data.chip_io import read_chip, read_label
from geoseg_prithvi.data.import_chips import import_chips
from geoseg_prithvi.data.index import index_metadata, read_index
from geoseg_prithvi.data.legends import LEGENDS, load_legend
from geoseg_prithvi.data.splits import SplitOptions
from geoseg_prithvi.data.statistics import read_statistics
from geoseg_prithvi.errors import (
    ChipError,
    ConfigError,
    DataNotFoundError,
    LabelError,
    OutputExistsError,
)
from geoseg_prithvi.hls import FILL

TOOL = Path(__file__).parents[2] / 'tools' / 'import_chips.py'
SIZE = 32
BURN = 'subsetted_512x512_HLS.S30.T10SEH.2018190.v1.4'


def write(path, array, *, crs='EPSG:5070', origin=(-2_000_000.0, 2_000_000.0), **profile):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = array if array.ndim == 3 else array[None]
    with rasterio.open(
        path,
        'w',
        driver='GTiff',
        count=len(array),
        height=array.shape[1],
        width=array.shape[2],
        dtype=array.dtype,
        crs=crs,
        transform=rasterio.Affine(30, 0, origin[0], 0, -30, origin[1]),
        **profile,
    ) as dataset:
        dataset.write(array)


def crop_pixels(number):
    """``1000 * t + 100 * band`` + a little, time-major; with a negative, a 0 and no data."""
    pixels = np.arange(3)[:, None] * 1000 + np.arange(6) * 100 + number
    pixels = np.broadcast_to(pixels.reshape(18, 1, 1), (18, SIZE, SIZE)).astype(np.int16).copy()
    pixels[0, 0, :3] = (-50, 0, FILL)
    return pixels


@pytest.fixture
def crops(tmp_path):
    """Two chips for training and one for validation, as the crop archives unpack."""
    root = tmp_path / 'crops'
    rng = np.random.default_rng(0)
    lines = ['chip_id,first_img_date,middle_img_date,last_img_date']
    for number in range(3):
        folder = root / ('training_chips' if number < 2 else 'validation_chips')
        name = f'chip_00{number}_1'
        origin = (-2_000_000.0 + 200_000 * number, 2_000_000.0)
        write(folder / f'{name}_merged.tif', crop_pixels(number), nodata=FILL, origin=origin)
        mask = rng.integers(0, 14, (SIZE, SIZE)).astype(np.uint8)
        write(folder / f'{name}.mask.tif', mask, origin=origin)
        lines.append(f'{name},2022-03-0{number + 1},2022-06-15,2022-09-20')
    (root / 'chips_df.csv').write_text('\n'.join(lines) + '\n')
    return root


@pytest.fixture
def burns(tmp_path):
    root = tmp_path / 'burns' / 'training'
    reflectance = np.linspace(-0.01, 0.6, 6 * SIZE * SIZE, dtype=np.float32)
    reflectance = reflectance.reshape(6, SIZE, SIZE)
    mask = np.zeros((SIZE, SIZE), np.int16)
    mask[:5], mask[-1] = 1, -1
    where = dict(crs='EPSG:32610', origin=(500_000.0, 4_200_000.0))
    write(root / f'{BURN}_merged.tif', reflectance, **where)
    write(root / f'{BURN}.mask.tif', mask, **where)
    return root.parent, reflectance


def run(monkeypatch, capsys, *args):
    monkeypatch.setattr(sys, 'argv', ['import_chips.py', *map(str, args)])
    runpy.run_path(str(TOOL), run_name='__main__')
    return capsys.readouterr().out


def test_crops(crops, tmp_path, monkeypatch, capsys):
    out = tmp_path / 'out'
    text = run(
        monkeypatch, capsys, crops, out, '--layout', 'three-dates', '--legend', 'crops', '--dates',
        crops / 'chips_df.csv',
    )  # fmt: skip
    assert text == f'3 chips in {out} (train 2, val 1, test 0); num_frames=3\n'
    table = read_index(out)
    rows = {row['chip_id']: row for row in table.to_pylist()}
    assert index_metadata(table)['num_frames'] == 3
    assert index_metadata(table)['classes'] == list(LEGENDS['crops'].names)
    assert index_metadata(table)['chip_size'] == SIZE
    row = rows['chip_001_1']
    assert row['dates'] == ['2022-03-02', '2022-06-15', '2022-09-20']
    assert row['sensors'] == ['S30'] * 3
    assert row['epsg'] == 5070
    assert row['clear_fraction'] == [None] * 3
    assert row['valid_fraction'] == 1 - 1 / SIZE**2
    assert np.array_equal(read_chip(out / row['image'], 3), crop_pixels(1))
    with rasterio.open(crops / 'training_chips' / 'chip_001_1.mask.tif') as dataset:
        codes = dataset.read(1)
    label = read_label(out / row['label'])
    assert np.array_equal(label, np.where(codes == 0, 255, codes.astype(int) - 1))
    assert row['class_pixels'] == [int((codes == code).sum()) for code in range(1, 14)]
    # Blue of t0 to t2 is 0, 1000, 2000 plus the number of the chip.
    assert read_statistics(out).mean[5] == pytest.approx(1500.5)


def test_dataset_serves_both(crops, burns, tmp_path):
    pytest.importorskip('mmseg')
    from mmengine.registry import DefaultScope

    from geoseg_prithvi.datasets import HLSSegDataset

    import_chips(
        crops, tmp_path / 'c', layout='three-dates', legend=LEGENDS['crops'],
        dates=str(crops / 'chips_df.csv'),
    )  # fmt: skip
    import_chips(burns[0], tmp_path / 'b', layout='single-date', legend=LEGENDS['burn-scars'])
    with DefaultScope.overwrite_default_scope('mmseg'):
        pipeline = [dict(type='LoadHLSChip', num_frames=3), dict(type='LoadHLSLabel')]
        crop_set = HLSSegDataset(str(tmp_path / 'c'), num_frames=3, pipeline=pipeline)
        pipeline = [dict(type='LoadHLSChip', num_frames=1), dict(type='LoadHLSLabel')]
        burn_set = HLSSegDataset(str(tmp_path / 'b'), num_frames=1, pipeline=pipeline)
    sample = crop_set[0]
    assert sample['img'].shape == (SIZE, SIZE, 18)
    assert sample['img'][5, 5, 13] == 2100
    assert sample['temporal_coords'].tolist() == [[2022, 59], [2022, 165], [2022, 262]]
    assert burn_set.metainfo['classes'] == ('not burned', 'burn scar')
    assert sorted(np.unique(burn_set[0]['gt_seg_map'])) == [0, 1, 255]


def test_burn_scars(burns, tmp_path):
    source, reflectance = burns
    (row,) = import_chips(
        source, tmp_path / 'out', layout='single-date', legend=LEGENDS['burn-scars']
    )
    assert row['dates'] == ['2018-07-09']
    assert (row['sensors'], row['tile'], row['split']) == (['S30'], '10SEH', 'train')
    pixels = read_chip(tmp_path / 'out' / row['image'], 1)
    assert np.array_equal(pixels, np.rint(reflectance * 10000.0).astype(np.int16))
    assert pixels.min() == -100  # small negatives are data
    assert row['class_pixels'] == [(SIZE - 6) * SIZE, 5 * SIZE]


def test_split_by_place(crops, tmp_path):
    rows = import_chips(
        crops,
        tmp_path / 'out',
        layout='three-dates',
        legend=LEGENDS['crops'],
        dates=('2022-03-01', '2022-06-01', '2022-09-01'),
        split_options=SplitOptions(block_size=2880.0, ratio=(0.34, 0.33, 0.33)),
    )
    assert sorted(row['split'] for row in rows) == ['test', 'train', 'val']


def test_legend_from_file(tmp_path):
    path = tmp_path / 'legend.json'
    document = dict(name='ice', codes=[3, 7], names=['a', 'b'], colors=[[1, 2, 3], [4, 5, 6]])
    path.write_text(json.dumps(document))
    legend = load_legend(str(path))
    assert legend.codes == (3, 7)
    assert legend.colors == ((1, 2, 3), (4, 5, 6))
    path.write_text(json.dumps(document | dict(names=['a'])))
    with pytest.raises(ConfigError, match='as many codes as names'):
        load_legend(str(path))
    path.write_text('{"name": "ice"}')
    with pytest.raises(ConfigError, match='is no legend'):
        load_legend(str(path))
    with pytest.raises(ConfigError, match="no legend 'snow'"):
        load_legend('snow')


def test_what_does_not_fit_is_told(crops, burns, tmp_path):
    out = tmp_path / 'out'

    def attempt(source=crops, **changes):
        kwargs = dict(
            layout='three-dates', legend=LEGENDS['crops'], dates=str(crops / 'chips_df.csv')
        )
        import_chips(source, out, **(kwargs | changes))

    with pytest.raises(ConfigError, match='is no layout'):
        attempt(layout='guess')
    with pytest.raises(ChipError, match=r'has 18 bands, but the layout has 1 date\(s\) x 6'):
        attempt(layout='single-date')
    with pytest.raises(ConfigError, match='does not say its dates'):
        attempt(dates=None)
    with pytest.raises(ConfigError, match='has 2 dates'):
        attempt(dates=('2022-01-01', '2022-02-01'))
    with pytest.raises(ConfigError, match='is no date'):
        attempt(dates=('a', 'b', 'c'))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DataNotFoundError, match='There is no chip'):
        attempt(source=tmp_path / 'empty')
    with pytest.raises(LabelError, match=r'label code\(s\) \[2, 3'):
        attempt(legend=LEGENDS['burn-scars'])
    with pytest.raises(ChipError, match='give the right --scale'):
        attempt(scale=100.0)
    table = (crops / 'chips_df.csv').read_text().splitlines()
    (crops / 'short.csv').write_text('\n'.join(table[:-1]) + '\n')
    with pytest.raises(ChipError, match='has no dates of chip_002_1'):
        attempt(dates=str(crops / 'short.csv'))
    assert not (out / 'chips.parquet').exists()
    attempt()
    with pytest.raises(OutputExistsError, match='--overwrite'):
        attempt()
    attempt(overwrite=True)
    image = crops / 'training_chips' / 'chip_000_1_merged.tif'
    image.write_bytes(image.read_bytes()[:2000])
    with pytest.raises(ChipError, match='truncated or damaged'):
        attempt(overwrite=True)
    image.with_name('chip_000_1.mask.tif').unlink()
    with pytest.raises(DataNotFoundError, match=r'has no mask chip_000_1\.mask\.tif'):
        attempt(overwrite=True)
    moved = burns[0] / 'elsewhere'
    (burns[0] / 'training').rename(moved)
    with pytest.raises(ConfigError, match='does not say the split'):
        attempt(burns[0], layout='single-date', dates=None)
