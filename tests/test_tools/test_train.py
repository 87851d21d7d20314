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
from mmengine.config import Config

from geoseg_prithvi.compat import load_checkpoint_file

from .conftest import DEMO, ROOT, demo_options, make_chips

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


def test_train_then_test_then_resume(chips, run_tool, tmp_path):
    work = tmp_path / 'work'
    run_tool(
        'tools/train.py',
        DEMO,
        '--work-dir',
        work,
        *demo_options(chips, **{'train_cfg.max_iters': 2}),
    )
    assert (work / 'last_checkpoint').read_text().endswith('iter_2.pth')
    best = next(work.glob('best_mIoU_iter_*.pth'))

    tested = run_tool(
        'tools/test.py', DEMO, best, '--work-dir', tmp_path / 'test', *demo_options(chips)
    )
    assert re.search(r'rangeland', tested.stdout + tested.stderr)
    assert list((tmp_path / 'test').rglob('*confusion*.csv'))

    resumed = run_tool(
        'tools/train.py', DEMO, '--work-dir', work, '--resume',
        *demo_options(chips, **{'train_cfg.max_iters': 4}),
    )  # fmt: skip
    assert 'resumed' in (resumed.stdout + resumed.stderr).lower()
    assert (work / 'last_checkpoint').read_text().endswith('iter_4.pth')


def test_killed_training_goes_on_as_if_nothing_had_happened(chips, run_tool, tmp_path):
    """Bit for bit, but for random flips and dropout: mmengine does not save generator states."""
    options = demo_options(
        chips,
        **{
            'train_cfg.max_iters': 12,
            'train_cfg.val_interval': 100,
            'train_dataloader.dataset.pipeline.2.prob': 0.0,
            'train_dataloader.dataset.pipeline.3.flip_prob': 0.0,
            'model.decode_head.dropout_ratio': 0.0,
        },
    )
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    run_tool('tools/train.py', DEMO, '--work-dir', whole, *options)

    command = [sys.executable, 'tools/train.py', DEMO, '--work-dir', str(killed), *options]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (killed / 'iter_4.pth').exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / 'iter_12.pth').exists()

    run_tool('tools/train.py', DEMO, '--work-dir', killed, '--resume', *options)
    expected, found = losses(whole), losses(killed)
    assert sorted(found) == list(range(1, 13))
    assert found == expected
    a = load_checkpoint_file(whole / 'iter_12.pth')['state_dict']
    b = load_checkpoint_file(killed / 'iter_12.pth')['state_dict']
    assert all(torch.equal(a[name], b[name]) for name in a)


def scores(process):
    """The last line of metrics that mmengine logs, without timings."""
    line = [x for x in (process.stdout + process.stderr).splitlines() if ' mIoU: ' in x][-1]
    return dict(
        re.findall(
            r'(\S+): ([\d.naninf]+)', line.split('mIoU', 1)[0] + 'mIoU' + line.split('mIoU', 1)[1]
        )
    )


def without_time(found):
    return {k: v for k, v in found.items() if not k.endswith('time')}


def test_two_cpu_ranks_train_and_give_the_numbers_of_one(chips, run_tool, tmp_path):
    work = tmp_path / 'work'
    options = demo_options(chips, **{'train_cfg.max_iters': 2})
    run_tool(
        'tools/dist_train.sh', DEMO, 2, '--work-dir', work, *options, env=dict(PORT=free_port())
    )
    checkpoint = work / 'iter_2.pth'
    one = run_tool('tools/test.py', DEMO, checkpoint, '--work-dir', tmp_path / 'one', *options)
    two = run_tool(
        'tools/dist_test.sh', DEMO, checkpoint, 2, '--work-dir', tmp_path / 'two', *options,
        env=dict(PORT=free_port()),
    )  # fmt: skip
    assert without_time(scores(one)) == without_time(scores(two))
    assert len(without_time(scores(one))) > 3


def test_full_size_model_trains_one_iteration_on_cpu(run_tool, tmp_path):
    chips = make_chips(tmp_path / 'chips', 224, dict(train=1, val=1, test=1))
    options = [
        '--cfg-options', 'model.backbone.init_cfg=None', 'train_cfg.max_iters=1',
        'train_dataloader.batch_size=1', 'default_hooks.checkpoint.interval=100',
    ]  # fmt: skip
    for phase in ('train', 'val', 'test'):
        options.append(f'{phase}_dataloader.dataset.data_root={chips}')
        options += [
            f'{phase}_dataloader.num_workers=0',
            f'{phase}_dataloader.persistent_workers=False',
        ]
    work = tmp_path / 'work'
    run_tool(
        'tools/train.py', 'configs/prithvi_lulc.py', '--work-dir', work,
        *options, 'default_hooks.logger.interval=1',
    )  # fmt: skip
    assert list(losses(work)) == [1]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ([], r'error: There is no data folder .*nowhere'),
        (['--cfg-options', 'optim_wrapper=3'], r'error: '),
    ],
    ids=['no data folder', 'option that does not fit'],
)
def test_bad_input_is_one_sentence(chips, run_tool, tmp_path, options, message):
    nowhere = tmp_path / 'nowhere'
    base = [] if options else demo_options(nowhere)
    done = run_tool(
        'tools/train.py', DEMO, '--work-dir', tmp_path / 'w', *base, *options, check=False
    )
    assert done.returncode == 2
    assert re.search(message, done.stderr.splitlines()[-1])


def test_unreachable_weights_say_what_to_do(chips, run_tool, tmp_path):
    done = run_tool(
        'tools/train.py', 'configs/prithvi_lulc.py', '--work-dir', tmp_path / 'w',
        '--cfg-options', *(f'{p}_dataloader.dataset.data_root={chips}' for p in ('train', 'val', 'test')),
        check=False, env=dict(HF_HUB_OFFLINE='1', HF_HOME=str(tmp_path / 'hub')),
    )  # fmt: skip
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert 'Prithvi_EO_V1_100M.pt' in last
    assert 'init_cfg' in last


def test_every_config_builds():
    found = [p for p in (ROOT / 'configs').rglob('*.py') if '_base_' not in p.parts]
    assert found
    for path in found:
        assert Config.fromfile(path).model.type
