"""tools/train.py, test.py and dist_*.sh as a user runs them. Also run on the OpenMMLab stack."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch

from geoseg_prithvi.compat import load_checkpoint_file

from .conftest import DEMO, ROOT, cfg_options, data_options, demo_options, make_chips

pytestmark = pytest.mark.slow


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


def losses(work):
    """Loss by iteration, from every log of a work dir; a repeated iteration must not differ."""
    found = {}
    for log in sorted(work.glob('*/vis_data/scalars.json')):
        for line in log.read_text().splitlines():
            row = json.loads(line)
            if 'loss' in row:
                found.setdefault(row['iter'], set()).add(row['loss'])
    return found


def scores(process):
    """The last line of metrics that mmengine logs, without timings."""
    lines = (process.stdout + process.stderr).splitlines()
    line = [line for line in lines if ' mIoU: ' in line][-1]
    found = dict(re.findall(r'(\w[\w/ ]*): (nan|[\d.]+)', line.partition('Iter(')[2]))
    return {name: value for name, value in found.items() if not name.endswith('time')}


def test_train_then_test_then_resume(chips, run_tool, tmp_path):
    work, tested = tmp_path / 'work', tmp_path / 'test'
    two = demo_options(chips, train_cfg__max_iters=2)
    run_tool('tools/train.py', DEMO, '--work-dir', work, *two)
    assert (work / 'last_checkpoint').read_text().endswith('iter_2.pth')

    best = next(work.glob('best_mIoU_iter_*.pth'))
    done = run_tool('tools/test.py', DEMO, best, '--work-dir', tested, *two)
    assert {'mIoU', 'aAcc', 'IoU/rangeland'} <= scores(done).keys()
    assert {path.suffix for path in tested.rglob('confusion_*')} == {'.csv', '.png'}

    four = demo_options(chips, train_cfg__max_iters=4)
    run_tool('tools/train.py', DEMO, '--work-dir', work, '--resume', *four)
    assert (work / 'last_checkpoint').read_text().endswith('iter_4.pth')
    assert sorted(losses(work)) == [1, 2, 3, 4]


def test_killed_training_goes_on_as_if_nothing_had_happened(chips, run_tool, tmp_path):
    """Bit for bit, but for random flips and dropout: mmengine does not save generator states."""
    config = tmp_path / 'no_flips.py'
    config.write_text(
        f"_base_ = ['{ROOT / DEMO}']\n"
        'train_dataloader = dict(dataset=dict(pipeline={{_base_.test_pipeline}}))\n'
        'model = dict(decode_head=dict(dropout_ratio=0.0))\n'
    )
    options = demo_options(chips, train_cfg__max_iters=12, train_cfg__val_interval=100)
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    run_tool('tools/train.py', config, '--work-dir', whole, *options)

    process = subprocess.Popen(
        [sys.executable, 'tools/train.py', config, '--work-dir', killed, *options],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    deadline = time.monotonic() + 120
    while not (killed / 'iter_4.pth').exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / 'iter_12.pth').exists()

    run_tool('tools/train.py', config, '--work-dir', killed, '--resume', *options)
    assert sorted(losses(killed)) == list(range(1, 13))
    assert losses(killed) == losses(whole)
    a, b = (load_checkpoint_file(w / 'iter_12.pth')['state_dict'] for w in (whole, killed))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_two_cpu_ranks_train_and_give_the_numbers_of_one(chips, run_tool, tmp_path):
    work = tmp_path / 'work'
    options = demo_options(chips, train_cfg__max_iters=2)
    port = dict(PORT=free_port())
    run_tool('tools/dist_train.sh', DEMO, 2, '--work-dir', work, *options, env=port)
    best = work / 'iter_2.pth'
    one = run_tool('tools/test.py', DEMO, best, '--work-dir', tmp_path / '1', *options)
    two = run_tool(
        'tools/dist_test.sh', DEMO, best, 2, '--work-dir', tmp_path / '2', *options,
        env=dict(PORT=free_port()),
    )  # fmt: skip
    assert len(scores(one)) > 3
    assert scores(one) == scores(two)


def test_full_size_model_trains_one_iteration_on_cpu(run_tool, tmp_path):
    chips = make_chips(tmp_path / 'chips', 224, dict(train=1, val=1, test=1))
    options = data_options(chips) | {
        'model.backbone.init_cfg': None,
        'train_cfg.max_iters': 1,
        'train_dataloader.batch_size': 1,
        'default_hooks.checkpoint.interval': 100,
        'default_hooks.logger.interval': 1,
    }
    work = tmp_path / 'work'
    run_tool('tools/train.py', 'configs/prithvi_lulc.py', '--work-dir', work, *cfg_options(options))
    assert list(losses(work)) == [1]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            [DEMO, '--cfg-options', 'train_dataloader.dataset.data_root=nowhere'],
            'There is no data folder nowhere',
        ),
        (['configs/nowhere.py'], 'configs/nowhere.py does not exist'),
        ([DEMO, '--launcher', 'slurm'], '--launcher slurm needs GPUs'),
    ],
    ids=['data', 'config', 'launcher'],
)
def test_bad_input_is_one_sentence(run_tool, tmp_path, arguments, message):
    done = run_tool('tools/train.py', *arguments, '--work-dir', tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith('error: ')
    assert message in done.stderr.splitlines()[-1]


def test_error_in_a_loader_worker_is_one_sentence_too(run_tool, tmp_path):
    chips = make_chips(tmp_path / 'chips', 32, dict(train=2, val=1, test=1))
    victim = chips / 'images/train_0.tif'
    victim.write_bytes(victim.read_bytes()[:3000])
    options = demo_options(chips, train_dataloader__num_workers=1, train_cfg__max_iters=4)
    done = run_tool('tools/train.py', DEMO, '--work-dir', tmp_path / 'w', *options, check=False)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith('error: ')
    assert 'train_0.tif cannot be read, it is truncated' in last


def test_unreachable_weights_say_what_to_do(chips, run_tool, tmp_path):
    done = run_tool(
        'tools/train.py',
        'configs/prithvi_lulc.py',
        '--work-dir',
        tmp_path / 'work',
        *cfg_options(data_options(chips)),
        check=False,
        env=dict(HF_HUB_OFFLINE='1', HF_HOME=str(tmp_path / 'hub')),
    )
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith('error: ')
    assert 'Prithvi_EO_V1_100M.pt' in last
    assert 'model.backbone.init_cfg=None' in last
