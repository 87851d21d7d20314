import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geoseg_prithvi.data.index import (
    INDEX_NAME,
    SCHEMA,
    index_metadata,
    read_index,
    write_index,
)
from geoseg_prithvi.errors import ChipIndexError, DataNotFoundError
from geoseg_prithvi.hls import BANDS
from geoseg_prithvi.lulc import IO_LULC


def make_row(i):
    return dict(
        chip_id=f'c{i}',
        image=f'images/c{i}.tif',
        label=f'labels/c{i}.tif',
        tile='10SEG',
        epsg=32610,
        minx=0.0,
        miny=0.0,
        maxx=960.0,
        maxy=960.0,
        lon=-123.0,
        lat=37.9,
        dates=['2022-01-20', '2022-06-01', '2022-09-17'],
        sensors=['L30', 'S30', 'S30'],
        clear_fraction=[1.0, 0.9, 0.8],
        valid_fraction=1.0,
        class_pixels=[i, *range(8)],
        purity=0.9,
        block='1_2',
        split=['train', 'train', 'val'][i % 3],
    )


def test_rows_come_back_in_order(tmp_path):
    rows = [make_row(i) for i in range(5)]
    write_index(tmp_path, rows)
    table = read_index(tmp_path)
    assert table.schema.remove_metadata() == SCHEMA
    assert table.to_pylist() == rows


def test_split_and_columns(tmp_path):
    write_index(tmp_path, [make_row(i) for i in range(6)])
    table = read_index(tmp_path, split='val', columns=['chip_id'])
    assert table.to_pylist() == [{'chip_id': 'c2'}, {'chip_id': 'c5'}]


def test_metadata(tmp_path):
    write_index(tmp_path, [make_row(0)])
    metadata = index_metadata(read_index(tmp_path, split='train', columns=['chip_id']))
    assert metadata['legend'] == IO_LULC.name
    assert metadata['classes'] == list(IO_LULC.names)
    assert metadata['colors'] == [list(color) for color in IO_LULC.colors]
    assert metadata['bands'] == list(BANDS)
    assert (metadata['num_frames'], metadata['chip_size']) == (3, 32)


def test_no_folder_and_no_index(tmp_path):
    with pytest.raises(DataNotFoundError, match='no data folder'):
        read_index(tmp_path / 'none')
    with pytest.raises(DataNotFoundError, match=r'no chips\.parquet in .*prepare_data\.py first'):
        read_index(tmp_path)


def test_unreadable(tmp_path):
    write_index(tmp_path, [make_row(i) for i in range(6)])
    path = tmp_path / INDEX_NAME
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ChipIndexError, match='no readable Parquet file'):
        read_index(tmp_path)


def test_missing_column(tmp_path):
    pq.write_table(pa.table({'chip_id': ['a'], 'split': ['train']}), tmp_path / INDEX_NAME)
    with pytest.raises(ChipIndexError, match=r'lacks the column.*class_pixels'):
        read_index(tmp_path)
    assert read_index(tmp_path, split='train', columns=['chip_id']).num_rows == 1
    with pytest.raises(ChipIndexError, match='no geoseg metadata'):
        index_metadata(read_index(tmp_path, columns=['chip_id']))


def test_empty_split_says_what_there_is(tmp_path):
    write_index(tmp_path, [make_row(i) for i in range(6)])
    with pytest.raises(ChipIndexError, match=r"'test' \(it has: train 4, val 2\)"):
        read_index(tmp_path, split='test')


def test_bad_rows_leave_no_index(tmp_path):
    with pytest.raises(ChipIndexError, match='no chip at all'):
        write_index(tmp_path, [])
    with pytest.raises(ChipIndexError, match='lacks the column'):
        write_index(tmp_path, [{k: v for k, v in make_row(0).items() if k != 'block'}])
    with pytest.raises(ChipIndexError, match='was not written'):
        write_index(tmp_path, [make_row(0) | {'epsg': 'here'}])
    assert list(tmp_path.iterdir()) == []


def test_same_rows_same_bytes(tmp_path):
    rows = [make_row(i) for i in range(6)]
    first = write_index(tmp_path, rows).read_bytes()
    assert write_index(tmp_path, rows).read_bytes() == first


def test_100000_rows_in_a_second(tmp_path):
    write_index(tmp_path, [make_row(i) for i in range(100_000)])
    started = time.perf_counter()
    table = read_index(tmp_path, split='train')
    assert time.perf_counter() - started < 1.0
    assert table.num_rows == 66_667
