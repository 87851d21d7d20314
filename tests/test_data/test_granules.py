import shutil

import numpy as np
import pytest
from rasterio.crs import CRS

from geoseg_prithvi.data.granules import (
    DamagedGranuleError,
    find_granules,
    read_grid,
    tile_grid,
    utm_epsg,
)
from geoseg_prithvi.errors import DataNotFoundError, GranuleError

from ..granule_world import ORIGIN, band_values, granule_name, write_granule, write_tif

#: Coordinate system as L30 granules carry it: the zone in words, and no EPSG code.
L30_WKT = (
    'PROJCS["UTM Zone 10, Northern Hemisphere",GEOGCS["Unknown datum based upon the WGS 84 '
    'ellipsoid",DATUM["Not_specified_based_on_WGS_84_spheroid",SPHEROID["WGS 84",6378137,'
    '298.257223563]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],'
    'PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],'
    'PARAMETER["central_meridian",-123],PARAMETER["scale_factor",0.9996],'
    'PARAMETER["false_easting",500000],PARAMETER["false_northing",0],UNIT["metre",1]]'
)


def add_granule(root, day=20, sensor='S30', size=8, tile='10SEG', **where):
    fmask = np.full((size, size), 64, np.uint8)
    name = granule_name(tile, day, sensor)
    return write_granule(root, name, band_values(0, size), fmask, **where)


def test_granules_of_both_sensors_at_any_depth(tmp_path):
    add_granule(tmp_path / 'a' / 'b', 40, 'S30')
    add_granule(tmp_path, 20, 'L30')
    add_granule(tmp_path / 'c', 30, tile='10SFG')
    (tmp_path / 'README.txt').write_text('not a granule')
    write_tif(tmp_path / 'other.tif', np.zeros((2, 2), np.uint8))
    tiles = find_granules(tmp_path)
    assert list(tiles) == ['10SEG', '10SFG']
    assert [granule.date for granule in tiles['10SEG']] == ['2022-01-20', '2022-02-09']
    l30, s30 = tiles['10SEG']
    assert l30.path('NIR_NARROW').name == 'HLS.L30.T10SEG.2022020T183000.v2.0.B05.tif'
    assert s30.path('NIR_NARROW').name == 'HLS.S30.T10SEG.2022040T183000.v2.0.B8A.tif'
    assert l30.path('SWIR_2').is_file()
    assert s30.path('Fmask').is_file()


def test_other_bands_of_the_product_are_passed_over(tmp_path):
    folder = add_granule(tmp_path)
    for band in ('B08', 'SAA'):
        write_tif(folder / f'{folder.name}.{band}.tif', np.zeros((2, 2), np.int16))
    assert len(find_granules(tmp_path)['10SEG']) == 1


@pytest.mark.parametrize(
    ('band', 'named'), [('B8A', r'B8A \(NIR_NARROW\)'), ('Fmask', 'Fmask:'), ('B02', 'BLUE')]
)
def test_missing_band_is_named(tmp_path, band, named):
    folder = add_granule(tmp_path)
    (folder / f'{folder.name}.{band}.tif').unlink()
    with pytest.raises(GranuleError, match=rf'{folder.name} lacks its band .*{named}'):
        find_granules(tmp_path)
    incomplete = {}
    with pytest.raises(DataNotFoundError, match=rf'no whole HLS granule .*{folder.name} lacks'):
        find_granules(tmp_path, incomplete=incomplete)
    assert list(incomplete) == [folder.name]


def test_granule_twice(tmp_path):
    folder = add_granule(tmp_path / 'a')
    shutil.copytree(folder, tmp_path / 'b' / folder.name)
    with pytest.raises(GranuleError, match='is there twice'):
        find_granules(tmp_path)


def test_no_folder_and_no_granules(tmp_path):
    with pytest.raises(DataNotFoundError, match='There is no folder'):
        find_granules(tmp_path / 'none')
    with pytest.raises(DataNotFoundError, match='no HLS granule'):
        find_granules(tmp_path)


def test_wrong_version_is_not_taken_for_v2(tmp_path):
    write_tif(tmp_path / 'HLS.S30.T10SEG.2022020T183000.v1.5.B02.tif', np.zeros((2, 2), np.int16))
    with pytest.raises(GranuleError, match=r'no HLS V2\.0 name'):
        find_granules(tmp_path)


def test_grid(tmp_path):
    grid = read_grid(add_granule(tmp_path) / f'{granule_name("10SEG", 20)}.B02.tif')
    assert (grid.epsg, grid.width, grid.height) == (32610, 8, 8)
    assert grid.bounds() == (ORIGIN[0], ORIGIN[1] - 240, ORIGIN[0] + 240, ORIGIN[1])


def test_l30_zone_without_code_is_the_same_grid(tmp_path):
    crs = CRS.from_wkt(L30_WKT)
    assert crs != CRS.from_epsg(32610)
    assert crs.to_epsg() is None
    add_granule(tmp_path, 20, 'L30', crs=crs)
    add_granule(tmp_path, 40, 'S30')
    assert tile_grid(find_granules(tmp_path)['10SEG']).epsg == 32610


@pytest.mark.parametrize(
    'where',
    [dict(size=9), dict(origin=(ORIGIN[0] + 30, ORIGIN[1])), dict(crs=32611)],
    ids=['size', 'origin', 'zone'],
)
def test_different_grids_name_both_granules(tmp_path, where):
    add_granule(tmp_path, 20, 'L30')
    add_granule(tmp_path, 40, 'S30', **where)
    with pytest.raises(
        GranuleError, match=r'HLS\.L30\.T10SEG\.2022020.* and HLS\.S30\.T10SEG\.2022040.*differ'
    ):
        tile_grid(find_granules(tmp_path)['10SEG'])


@pytest.mark.parametrize('epsg', [4326, 3857, 26910, 32661])
def test_only_utm_zones_of_wgs_84(epsg):
    with pytest.raises(GranuleError, match=r'f\.tif is in EPSG'):
        utm_epsg(CRS.from_epsg(epsg), 'f.tif')


def test_utm_zones():
    assert utm_epsg(CRS.from_epsg(32760), 'f') == 32760
    assert utm_epsg(CRS.from_epsg(32601), 'f') == 32601
    with pytest.raises(GranuleError, match='no coordinate system'):
        utm_epsg(None, 'f')


def test_damaged_file_is_named(tmp_path):
    path = add_granule(tmp_path) / f'{granule_name("10SEG", 20)}.Fmask.tif'
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(DamagedGranuleError, match=r'Fmask\.tif cannot be read') as caught:
        tile_grid(find_granules(tmp_path)['10SEG'])
    assert caught.value.path == path
    add_granule(tmp_path, 40)
    assert tile_grid(find_granules(tmp_path)['10SEG']).width == 8
