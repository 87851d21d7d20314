"""Processes of a study: what they see of the machine, and that none outlives it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from geoseg_prithvi.experiments import launchers
from geoseg_prithvi.experiments.execute import run_command


def alive(pid):
    """A zombie that nobody reaps is dead too."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != 'linux', reason='elsewhere the lock keeps order')
def test_a_command_dies_with_a_killed_study(tmp_path):
    code = (
        'import os\n'
        'from pathlib import Path\n'
        'from geoseg_prithvi.experiments.execute import run_command\n'
        'run_command(["sleep", "60"], Path(os.devnull), os.environ,\n'
        '            started=lambda p: print(p.pid, flush=True))\n'
    )
    study = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    pid = int(study.stdout.readline())
    assert alive(pid)
    study.send_signal(signal.SIGKILL)
    study.communicate()
    deadline = time.monotonic() + 5
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)


def test_a_command_leaves_its_output_and_exit_code(tmp_path):
    log = tmp_path / 'log'
    assert run_command(['sh', '-c', 'echo $WORD; echo no >&2; exit 3'], log, {'WORD': 'yes'}) == 3
    assert log.read_text() == 'yes\nno\n'


@pytest.mark.parametrize(
    ('gpus', 'visible', 'expected'),
    [
        (0, None, [None, None, None]),
        (2, None, ['0', '1', '0']),
        (2, '5,7', ['5', '7', '5']),
    ],
)
def test_slots_share_gpus_in_turn_and_cores_evenly(monkeypatch, gpus, visible, expected):
    monkeypatch.setattr(launchers.torch.cuda, 'device_count', lambda: gpus)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    if visible:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
    slots = launchers._slot_environments(3)
    assert [slot.get('CUDA_VISIBLE_DEVICES') for slot in slots] == expected
    cores = len(os.sched_getaffinity(0))
    assert {slot['OMP_NUM_THREADS'] for slot in slots} == {str(max(cores // 3, 1))}
    monkeypatch.setenv('OMP_NUM_THREADS', '4')
    assert launchers._slot_environments(1)[0]['OMP_NUM_THREADS'] == '4'
