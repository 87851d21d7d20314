import pytest
import torch

from geoseg_prithvi.engine.launch import latest_checkpoint, load_run_config
from geoseg_prithvi.errors import ConfigError, DataNotFoundError


def test_latest_checkpoint_is_the_newest_whole_one(tmp_path):
    assert latest_checkpoint(tmp_path / 'nowhere') is None
    for name in ('iter_9.pth', 'iter_10.pth', 'iter_11.pth', 'best_mIoU_iter_12.pth'):
        torch.save(dict(a=torch.arange(1000)), tmp_path / name)
    (tmp_path / 'last_checkpoint').write_text('')  # killed while it was written
    assert latest_checkpoint(tmp_path) == str(tmp_path / 'iter_11.pth')
    data = (tmp_path / 'iter_11.pth').read_bytes()
    for length in (0, 100, len(data) // 2, len(data) - 1):
        (tmp_path / 'iter_11.pth').write_bytes(data[:length])
        assert latest_checkpoint(tmp_path) == str(tmp_path / 'iter_10.pth')


def test_work_dir_is_the_option_or_the_config_or_its_name(tmp_path):
    config = tmp_path / 'mine.py'
    config.write_text('a = 1')
    assert load_run_config(str(config)).work_dir == 'work_dirs/mine'
    assert load_run_config(str(config), work_dir='there', options={'a': 2}).work_dir == 'there'
    config.write_text("work_dir = 'own'")
    assert load_run_config(str(config)).work_dir == 'own'


def test_unusable_configs_are_named(tmp_path):
    with pytest.raises(DataNotFoundError, match=r'nowhere\.py does not exist'):
        load_run_config(str(tmp_path / 'nowhere.py'))
    config = tmp_path / 'broken.py'
    config.write_text('a = (')
    with pytest.raises(ConfigError, match=r'broken\.py cannot be used'):
        load_run_config(str(config))
