"""The whole way from folders to a chip folder, what it leaves behind, and what it refuses."""

import collections
import importlib.util
import json
import multiprocessing
import random
import re
import resource
import runpy
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geoseg_prithvi.data.chip_io import read_chip, read_label
from geoseg_prithvi.data.chips import ChipOptions
from geoseg_prithvi.data.files import PARTIAL_PREFIX
from geoseg_prithvi.data.frames import SeasonWindow, equal_windows
from geoseg_prithvi.data.index import INDEX_NAME, read_index
from geoseg_prithvi.data.prepare import prepare
from geoseg_prithvi.data.splits import SplitOptions
from geoseg_prithvi.data.statistics import read_statistics
from geoseg_prithvi.data.summary import print_summary
from geoseg_prithvi.errors import (
    ConfigError,
    DataNotFoundError,
    GranuleError,
    LabelError,
    OutputExistsError,
    report_errors,
)
from geoseg_prithvi.hls import FILL, Fmask

from ..granule_world import ORIGIN, PASSES, granule_name, write_tif, write_world

TOOL = Path(__file__).parents[2] / 'tools' / 'prepare_data.py'
SPLITS = SplitOptions(block_size=960.0, ratio=(0.56, 0.22, 0.22))


def chip_options(**changes):
    return ChipOptions(**(dict(windows=equal_windows(3), chip_size=32) | changes))


def run(root, out, *, splits=SPLITS, **kwargs):
    """Prepare ``root/granules`` and ``root/labels``; keywords of the options go there."""
    ours = {key: kwargs.pop(key) for key in list(kwargs) if key in ChipOptions.__annotations__}
    return prepare(root / 'granules', root / 'labels', out, chip_options(**ours), splits, **kwargs)


def tree(folder):
    """All files and their bytes, the records of tasks too."""
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope='module')
def two_tiles(tmp_path_factory):
    """Tiles 10SEG and 10SFG, the latter 64 of 96 pixels to the east: they share 32 columns."""
    root = tmp_path_factory.mktemp('two_tiles')
    write_world(root)
    write_world(root, tile='10SFG', origin=(ORIGIN[0] + 64 * 30, ORIGIN[1]))
    # One label map for both, 160 x 96 pixels of HLS.
    codes = np.random.default_rng(1).choice([1, 2, 5], (12, 20)).astype(np.uint8)
    codes = codes.repeat(24, 0).repeat(24, 1)
    write_tif(root / 'labels' / '10S_20220101-20230101.tif', codes, ORIGIN, 10.0, nodata=0)
    return root


def test_rows_are_true_of_their_files(chip_folder):
    table = read_index(chip_folder)
    assert table.num_rows == 9
    assert sorted(table['split'].to_pylist()).count('train') == 5
    for row in table.to_pylist():
        label = read_label(chip_folder / row['label'])
        counts = np.bincount(label.ravel(), minlength=256)
        assert counts[:9].tolist() == row['class_pixels']
        assert read_chip(chip_folder / row['image'], 3).shape == (18, 32, 32)
        assert row['dates'] == ['2022-01-20', '2022-05-20', '2022-09-17']
        assert row['tile'] == '10SEG'
        assert row['epsg'] == 32610
        assert 37 < row['lat'] < 39
        assert -124 < row['lon'] < -122


def test_statistics_are_of_the_train_split(chip_folder):
    names = read_index(chip_folder, split='train')['image'].to_pylist()
    chips = np.stack([read_chip(chip_folder / name, 3) for name in names]).astype(float)
    # (N, T*C, H, W) -> (C, N*T*H*W)
    bands = chips.reshape(len(names), 3, 6, -1).transpose(2, 0, 1, 3).reshape(6, -1)
    found = read_statistics(chip_folder)
    np.testing.assert_allclose(found.mean, bands.mean(1), rtol=1e-12)
    np.testing.assert_allclose(found.std, bands.std(1), rtol=1e-12)


def test_tiles_that_overlap_yield_each_ground_pixel_once(two_tiles, tmp_path):
    outcome = run(two_tiles, tmp_path)
    seen = np.zeros((96, 160), int)
    for row in outcome.rows:
        column = round((row['minx'] - ORIGIN[0]) / 30)
        line = round((ORIGIN[1] - row['maxy']) / 30)
        seen[line : line + 32, column : column + 32] += 1
    assert (seen == 1).all()
    assert outcome.skipped['overlapping'] == 3
    assert [row['tile'] for row in outcome.rows].count('10SEG') == 9


def test_each_granule_band_is_opened_once_for_all_of_its_chips(two_tiles, tmp_path, monkeypatch):
    opened = collections.Counter()
    real = rasterio.open

    def counting(path, mode='r', **kwargs):
        opened[Path(path).name] += mode == 'r'
        return real(path, mode, **kwargs)

    monkeypatch.setattr(rasterio, 'open', counting)
    assert len(run(two_tiles, tmp_path, chip_size=24).rows) == 24
    bands = {name: count for name, count in opened.items() if re.search(r'B\w\w\.tif$', name)}
    # Three of the six granules of each tile are used; Fmask is opened for its grid as well.
    assert len(bands) == 2 * 3 * 6
    assert set(bands.values()) == {1}
    fmasks = [count for name, count in opened.items() if name.endswith('Fmask.tif')]
    assert fmasks == [2] * 12


def test_held_out_tile_is_whole_and_has_the_shared_ground(two_tiles, tmp_path):
    splits = SplitOptions(block_size=960.0, test_tiles=('10SFG',), seed=3)
    outcome = run(two_tiles, tmp_path, splits=splits)
    test = [row for row in outcome.rows if row['split'] == 'test']
    assert [row['tile'] for row in test] == ['10SFG'] * 9
    others = [row for row in outcome.rows if row['tile'] == '10SEG']
    assert len(others) == 6
    assert {row['split'] for row in others} == {'train', 'val'}


def test_years_are_kept_apart_in_dates_but_not_in_splits(tmp_path):
    write_world(tmp_path)
    write_world(tmp_path, year=2021, seed=1)
    outcome = run(tmp_path, tmp_path / 'out')
    assert len(outcome.rows) == 18
    split_at = {}
    for row in outcome.rows:
        year = row['chip_id'].split('_')[1]
        assert {date[:4] for date in row['dates']} == {year}
        assert split_at.setdefault((row['minx'], row['maxy']), row['split']) == row['split']
    assert len(run(tmp_path, tmp_path / 'one', years=[2021]).rows) == 9


def test_local_cluster_gives_the_same_bytes(two_tiles, tmp_path):
    pytest.importorskip('distributed')
    run(two_tiles, tmp_path / 'one')
    run(two_tiles, tmp_path / 'two', workers=2)
    assert tree(tmp_path / 'one') == tree(tmp_path / 'two')


def test_scheduler_gives_the_same_bytes(two_tiles, tmp_path, monkeypatch):
    """Paths from the user's folder are good for workers that stand in another."""
    distributed = pytest.importorskip('distributed')
    run(two_tiles, tmp_path / 'one')
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol='tcp', dashboard_address=None
    ) as cluster:
        monkeypatch.chdir(tmp_path)
        run(two_tiles, Path('two'), scheduler=cluster.scheduler_address)
    assert tree(tmp_path / 'one') == tree(tmp_path / 'two')


def test_no_scheduler_there(two_tiles, tmp_path):
    dask = pytest.importorskip('dask')
    pytest.importorskip('distributed')
    with (
        dask.config.set({'distributed.comm.timeouts.connect': '0.5s'}),
        pytest.raises(ConfigError, match=r'No dask scheduler answers at tcp://127\.0\.0\.1:1 '),
    ):
        run(two_tiles, tmp_path, scheduler='tcp://127.0.0.1:1')


def test_second_run_does_only_what_is_missing(two_tiles, tmp_path):
    first = run(two_tiles, tmp_path)
    assert (first.tasks, first.resumed) == (2, 0)
    before = tree(tmp_path)
    again = run(two_tiles, tmp_path)
    assert (again.tasks, again.resumed) == (2, 2)
    assert tree(tmp_path) == before

    (tmp_path / 'images' / '10SFG_2022_0032_0032.tif').unlink()
    kept = tmp_path / 'images' / '10SEG_2022_0032_0032.tif'
    written = kept.stat().st_mtime_ns
    assert run(two_tiles, tmp_path).resumed == 1
    assert tree(tmp_path) == before
    assert kept.stat().st_mtime_ns == written


def test_splits_can_be_changed_without_cutting_again(two_tiles, tmp_path):
    run(two_tiles, tmp_path)
    splits = SplitOptions(block_size=960.0, ratio=(0.5, 0.5, 0.0), seed=1)
    outcome = run(two_tiles, tmp_path, splits=splits)
    assert outcome.resumed == 2
    assert {row['split'] for row in outcome.rows} == {'train', 'val'}


def test_changed_input_is_cut_again_and_leaves_no_orphan(tmp_path):
    write_world(tmp_path)
    run(tmp_path, tmp_path / 'out')
    codes = np.full((288, 288), 2, np.uint8)
    codes[:96, :96] = 0
    write_tif(tmp_path / 'labels' / '10S_20220101-20230101.tif', codes, ORIGIN, 10.0, nodata=0)
    outcome = run(tmp_path, tmp_path / 'out')
    assert (outcome.resumed, outcome.skipped['no label'], len(outcome.rows)) == (0, 1, 8)
    assert len(list((tmp_path / 'out/images').iterdir())) == 8
    assert len(list((tmp_path / 'out/labels').iterdir())) == 16  # with their sidecars


def test_other_options_need_another_folder_or_overwrite(tmp_path):
    write_world(tmp_path)
    run(tmp_path, tmp_path / 'out')
    before = tree(tmp_path / 'out')
    with pytest.raises(OutputExistsError, match='cut with other options'):
        run(tmp_path, tmp_path / 'out', min_clear=0.5)
    assert tree(tmp_path / 'out') == before
    run(tmp_path, tmp_path / 'out', chip_size=48, overwrite=True)
    run(tmp_path, tmp_path / 'fresh', chip_size=48)
    assert tree(tmp_path / 'out').keys() == tree(tmp_path / 'fresh').keys()


def test_chips_of_another_tool_are_not_touched(tmp_path, chip_folder):
    write_world(tmp_path)
    shutil.copytree(chip_folder, tmp_path / 'out')
    (tmp_path / 'out' / 'prepare.json').unlink()
    with pytest.raises(OutputExistsError, match='chips of another tool'):
        run(tmp_path, tmp_path / 'out', overwrite=True)


@pytest.mark.parametrize('number', range(10))
def test_killed_at_a_random_moment_a_second_run_ends_the_same(two_tiles, whole, tmp_path, number):
    """SIGKILL when the n-th chip appears; the last kill hits the master of two workers."""
    workers = 2 if number == 9 and importlib.util.find_spec('distributed') else 1
    # A fork of this process, with dask's threads gone, cannot use dask.
    context = multiprocessing.get_context('fork' if workers == 1 else 'forkserver')
    moment = random.Random(number).randrange(len(whole[1]) - 2)
    for _ in range(5):  # on a busy machine a run may be over before this process sees the chip
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        process = context.Process(
            target=run, args=(two_tiles, tmp_path), kwargs=dict(chip_size=24, workers=workers)
        )
        process.start()
        while process.is_alive() and len(list(tmp_path.glob('images/*.tif'))) <= moment:
            time.sleep(0.001)
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            break
    assert process.exitcode == -signal.SIGKILL
    if (tmp_path / INDEX_NAME).exists():
        for row in read_index(tmp_path).to_pylist():
            read_chip(tmp_path / row['image'], 3)
            read_label(tmp_path / row['label'])
    run(two_tiles, tmp_path, chip_size=24)
    assert tree(tmp_path) == whole[0]


@pytest.fixture(scope='module')
def whole(two_tiles, tmp_path_factory):
    """The files of an undisturbed run, and its rows."""
    out = tmp_path_factory.mktemp('whole')
    rows = run(two_tiles, out, chip_size=24).rows
    return tree(out), rows


def test_full_disk_in_mid_write_is_one_sentence_and_the_next_run_goes_on(
    two_tiles, whole, tmp_path, capfd
):
    """A limit on the size of files makes the kernel refuse a chip, as a full disk does."""
    smallest = min(len(content) for name, content in whole[0].items() if name.endswith('0.tif'))

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (smallest, smallest))
        report_errors(run)(two_tiles, tmp_path, chip_size=24)

    process = multiprocessing.get_context('fork').Process(target=limited)
    process.start()
    process.join()
    assert process.exitcode == 2
    assert re.search(
        r'error: .*_0000\.tif could not be written .*free space', capfd.readouterr().err
    )
    assert not (tmp_path / INDEX_NAME).exists()
    assert not list(tmp_path.rglob(f'{PARTIAL_PREFIX}*'))
    run(two_tiles, tmp_path, chip_size=24)
    assert tree(tmp_path) == whole[0]


def test_error_in_mid_run_leaves_no_index(two_tiles, tmp_path):
    shutil.copytree(two_tiles, tmp_path / 'world')
    run(tmp_path / 'world', tmp_path / 'out')
    name = granule_name('10SFG', 20, 'L30')
    path = tmp_path / 'world/granules' / name / f'{name}.B05.tif'
    whole = path.read_bytes()
    write_tif(path, np.zeros((96, 96), np.int16))  # on the grid of the other tile
    with pytest.raises(GranuleError, match=r'T10SFG.*B05\.tif .*grids differ'):
        run(tmp_path / 'world', tmp_path / 'out')
    assert not (tmp_path / 'out' / INDEX_NAME).exists()
    path.write_bytes(whole)
    assert len(run(tmp_path / 'world', tmp_path / 'out').rows) == 15


@pytest.mark.parametrize('size', [None, 0, 12_000], ids=['absent', 'empty', 'truncated'])
def test_damaged_granule_is_left_out_by_name(two_tiles, tmp_path, size, capsys):
    shutil.copytree(two_tiles, tmp_path / 'world')
    name = granule_name('10SFG', 20, 'L30')
    path = tmp_path / 'world/granules' / name / f'{name}.B05.tif'
    if size is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:size])
    outcome = run(tmp_path / 'world', tmp_path / 'out')
    assert list(outcome.damaged) == [name]
    assert {row['dates'][0] for row in outcome.rows if row['tile'] == '10SFG'} == {'2022-03-01'}
    print_summary(outcome, tmp_path / 'out')
    assert re.search(
        rf'1 damaged granule.*\n.*{name}\.B05\.tif (cannot be read|is not in)',
        capsys.readouterr().out,
    )
    # A second run says so again, and a strict one refuses the folder but leaves it be.
    before = tree(tmp_path / 'out')
    again = run(tmp_path / 'world', tmp_path / 'out')
    assert (again.resumed, again.damaged) == (2, outcome.damaged)
    with pytest.raises(GranuleError, match=rf'{name}\.B05\.tif (cannot be read|is not)'):
        run(tmp_path / 'world', tmp_path / 'out', strict=True)
    assert tree(tmp_path / 'out') == before


def test_tile_without_a_chip_is_named(two_tiles, tmp_path, capsys):
    shutil.copytree(two_tiles, tmp_path / 'world')
    for day, sensor in ((140, 'S30'), (200, 'L30')):
        name = granule_name('10SFG', day, sensor)
        fmask = np.full((96, 96), 64, np.uint8)
        fmask[:, ::4] = 66
        write_tif(
            tmp_path / 'world/granules' / name / f'{name}.Fmask.tif',
            fmask,
            (ORIGIN[0] + 64 * 30, ORIGIN[1]),
        )
    outcome = run(tmp_path / 'world', tmp_path / 'out', min_clear=0.8)
    assert outcome.without_chips == [
        'Tile 10SFG has no chip of 2022 (not clear enough: 6); the clearest granule over any chip '
        'shows 100% in 01-01:05-01, 75% in 05-02:08-31, 100% in 09-01:12-31'
    ]
    print_summary(outcome, tmp_path / 'out')
    assert outcome.without_chips[0] in capsys.readouterr().out


def test_nothing_clear_enough_says_how_clear_it_was(tmp_path):
    write_world(tmp_path, passes=((20, 'L30'), (140, 'S30'), (300, 'S30')))
    name = granule_name('10SEG', 140, 'S30')
    fmask = np.full((96, 96), 64, np.uint8)
    fmask[:, ::2] = 66
    write_tif(tmp_path / 'granules' / name / f'{name}.Fmask.tif', fmask)
    with pytest.raises(
        GranuleError,
        match=r'Tile 10SEG has no chip of 2022 .*not clear enough: 9.*50% in 05-02:08-31',
    ):
        run(tmp_path, tmp_path / 'out')
    assert not (tmp_path / 'out' / INDEX_NAME).exists()


def test_year_without_granules_or_labels(granule_folder, label_folder, tmp_path):
    args = (granule_folder, label_folder, tmp_path, chip_options(), SPLITS)
    with pytest.raises(GranuleError, match=r'no granule in the season window .* of 2021'):
        prepare(*args, years=[2021])
    other = tmp_path / 'labels'
    write_tif(other / '10S-2021.tif', np.ones((288, 288), np.uint8), ORIGIN, 10.0)
    with pytest.raises(LabelError, match=r'granules \(2022\) and a label map \(2021\)'):
        prepare(granule_folder, other, tmp_path, chip_options(), SPLITS)
    with pytest.raises(LabelError, match='no label map of 2022'):
        prepare(granule_folder, other, tmp_path, chip_options(), SPLITS, years=[2022])


def test_bad_input_is_refused_before_anything_is_written(granule_folder, label_folder, tmp_path):
    out = tmp_path / 'out'
    narrow = chip_options(windows=(SeasonWindow.parse('04-01:04-30'),))
    unknown = SplitOptions(block_size=960.0, test_tiles=('10SZZ',))
    with pytest.raises(DataNotFoundError, match='folder of the HLS granules'):
        prepare(tmp_path / 'none', label_folder, out, chip_options(), SPLITS)
    with pytest.raises(DataNotFoundError, match='folder of the label maps'):
        prepare(granule_folder, tmp_path / 'none', out, chip_options(), SPLITS)
    with pytest.raises(GranuleError, match='season window 04-01:04-30'):
        prepare(granule_folder, label_folder, out, narrow, SPLITS)
    with pytest.raises(ConfigError, match='less than one chip of 224'):
        prepare(granule_folder, label_folder, out, chip_options(chip_size=224), SPLITS)
    with pytest.raises(ConfigError, match='held-out tile 10SZZ'):
        prepare(granule_folder, label_folder, out, chip_options(), unknown)
    assert not out.exists()


def tool(*argv):
    """Run ``tools/prepare_data.py`` in this process; return its exit code."""
    old = sys.argv
    sys.argv = [str(TOOL), *map(str, argv)]
    try:
        runpy.run_path(str(TOOL), run_name='__main__')
    except SystemExit as stop:
        return stop.code
    finally:
        sys.argv = old
    return 0


def test_clouds_become_nodata_on_request(tmp_path):
    granules, _ = write_world(tmp_path)
    # Both candidates of the last frame: cloud on every other column of the western chips.
    for day, sensor in PASSES[4:]:
        (path,) = granules.glob(f'{granule_name("10SEG", day, sensor)}/*Fmask.tif')
        fmask = np.full((96, 96), 64, np.uint8)
        fmask[:, :32:2] = int(Fmask.CLOUD)
        write_tif(path, fmask, nodata=255)
    options = dict(min_clear=0.5, min_valid=1.0, workers=1)
    plain, masked = tmp_path / 'plain', tmp_path / 'masked'
    run(tmp_path, plain, **options)
    rows = run(tmp_path, masked, mask_clouds=True, **options).rows
    assert len(rows) == 9
    hidden_chips = 0
    for row in rows:
        before = read_chip(plain / row['image'], 3).reshape(3, 6, 32, 32)
        after = read_chip(masked / row['image'], 3).reshape(3, 6, 32, 32)
        expected = before.copy()
        if row['minx'] == ORIGIN[0]:
            expected[2, :, :, ::2] = FILL
            hidden_chips += 1
        np.testing.assert_array_equal(after, expected)
        assert row['valid_fraction'] == 1.0
    assert hidden_chips == 3


def test_tool(granule_folder, label_folder, tmp_path, capsys):
    argv = (granule_folder, label_folder, tmp_path, '--chip-size', 32, '--workers', 1)
    more = ('--block-size', 960, '--split-ratio', 0.56, 0.22, 0.22, '--min-purity', 0.4)
    assert tool(*argv, *more, '--mask-clouds') == 0
    printed = capsys.readouterr().out
    assert '9 chips in' in printed
    assert 'flooded vegetation' in printed
    options = json.loads((tmp_path / 'prepare.json').read_text())
    assert options['windows'] == ['01-01:05-01', '05-02:08-31', '09-01:12-31']
    assert (options['stride'], options['min_purity']) == (32, 0.4)
    assert options['mask_clouds']
    assert read_index(tmp_path).num_rows == 9


@pytest.mark.parametrize(
    ('more', 'words'),
    [
        (('--windows', '03-01:05-31'), '--windows names 1 season windows but --frames is 3'),
        (('--frames', '1', '--windows', 'spring'), "'spring' is no season window"),
        (('--test-tiles', 'T10SZZ'), 'held-out tile 10SZZ'),
        (('--chip-size', '128'), 'less than one chip of 128'),
        (('--year', '2019'), 'of 2019'),
    ],
)
def test_tool_ends_with_one_sentence(granule_folder, label_folder, tmp_path, capsys, more, words):
    out = tmp_path / 'out'
    assert tool(granule_folder, label_folder, out, '--workers', 1, '--chip-size', 32, *more) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith('error: ')
    assert words in line
    assert not out.exists()
