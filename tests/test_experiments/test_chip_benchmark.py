from pathlib import Path

import pytest

from geoseg_prithvi.errors import ConfigError
from geoseg_prithvi.experiments.chip_benchmark import time_chips, time_command, time_index

TOOL = Path(__file__).parents[2] / 'tools' / 'prepare_data.py'


@pytest.mark.slow
def test_counts_and_leaves_only_the_tile(tmp_path):
    timing = time_chips(TOOL, tmp_path, 1, size=448, workers=2)
    assert (timing.tiles, timing.chips) == (1, 4)
    assert 0 < timing.floor < timing.command
    assert 100 < timing.memory < 2000
    assert [path.name for path in tmp_path.iterdir()] == ['10SEF_448_3']


def test_command_that_fails(tmp_path):
    script = tmp_path / 'fails.py'
    script.write_text('raise SystemExit(3)')
    with pytest.raises(ConfigError, match='ended with 3'):
        time_command([script])


def test_number_of_tiles(tmp_path):
    with pytest.raises(ConfigError, match='1 to 4 tiles, not 5'):
        time_chips(TOOL, tmp_path, 5)


def test_index(tmp_path):
    assert 0 < time_index(tmp_path, 300) < 1
    assert not list(tmp_path.iterdir())
