"""tools/label_efficiency.py as a user runs it: killed, failing, changed, on another launcher."""

import json
import os
import random
import runpy
import signal
import subprocess
import sys
import time

import pytest

from geoseg_prithvi.experiments.ledger import Ledger
from geoseg_prithvi.experiments.results import write_results
from geoseg_prithvi.experiments.runs import expand
from geoseg_prithvi.experiments.study import load_study

from ..test_experiments.tiny_study import PRITHVI, SMALL, data_options, tiny_study, write_study
from .conftest import ROOT

pytestmark = pytest.mark.slow
TOOL = 'tools/label_efficiency.py'


def results(study, work, out):
    """Write the tables in this process; gives the files' bytes and how many runs they lack."""
    study = load_study(study, str(work))
    runs = expand(study)
    *files, missing = write_results(study, runs, Ledger(study.work_dir, runs), out)
    return [path.read_bytes() for path in files], missing


def two_runs(chips, path, **changes):
    """One experiment with two seeds, on half of the chips."""
    content = tiny_study(chips, **{'fractions': [0.5], 'seeds': [0, 1], **changes})
    del content['experiments']['unet']
    return write_study(path, content)


@pytest.fixture(scope='module')
def pair(chips, run_tool, tmp_path_factory):
    """A study of two runs that nobody disturbed: its file and its work dir."""
    folder = tmp_path_factory.mktemp('pair')
    study = two_runs(chips, folder / 'study.py')
    run_tool(TOOL, 'run', study, '--work-dir', folder / 'work', '--jobs', 2)
    return study, folder / 'work'


def test_a_study_killed_at_random_moments_ends_in_the_same_results(pair, tmp_path):
    study, undisturbed = pair
    work = tmp_path / 'work'
    command = [sys.executable, TOOL, 'run', study, '--work-dir', work, '--jobs', '2']
    options = dict(cwd=ROOT, env={**os.environ, 'OMP_NUM_THREADS': '1'}, text=True)
    waits = [random.uniform(0, 12) for _ in range(2)]
    for seconds in waits:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, **options)
        begun = time.time()
        while process.poll() is None and not any(
            path.stat().st_mtime > begun for path in work.rglob('started.json')
        ):
            time.sleep(0.1)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = subprocess.run(command, capture_output=True, check=False, **options)
    assert done.returncode == 0, (waits, done.stdout, done.stderr)
    assert results(study, work, tmp_path / 'a') == results(study, undisturbed, tmp_path / 'b')
    assert results(study, work, tmp_path / 'a')[1] == 0


def test_nothing_is_repeated_and_a_change_is_not_overlooked(pair, chips, run_tool, tmp_path):
    study, work = pair
    notes = sorted(work.rglob('run.json'))
    before = [(path, path.stat().st_mtime_ns) for path in notes]
    again = run_tool(TOOL, 'run', study, '--work-dir', work)
    assert '2 of 2 runs are finished' in again.stdout
    assert [(path, path.stat().st_mtime_ns) for path in sorted(work.rglob('run.json'))] == before

    changed = two_runs(
        chips,
        tmp_path / 'study.py',
        cfg_options=data_options(chips) | {'optim_wrapper.clip_grad': 1},
    )
    status = run_tool(TOOL, 'status', changed, '--work-dir', work)
    assert '2 stale' in status.stdout
    assert 'stale: runs/prithvi/0.5/seed0: the config changed' in status.stdout


def test_a_failed_run_is_told_and_stops_no_other(chips, run_tool, tmp_path):
    content = tiny_study(
        chips,
        fractions=[1.0],
        pretraining=dict(
            first=dict(
                config=str(PRITHVI),
                cfg_options={
                    **data_options(chips),
                    **SMALL,
                    'train_cfg.max_iters': 1,
                    'default_hooks.checkpoint.save_best': None,
                },
            ),
        ),
    )
    content['experiments']['prithvi']['init'] = 'first'
    content['experiments']['unet']['cfg_options'] = {'model.backbone.base_channels': 'many'}
    study, work = write_study(tmp_path / 'study.py', content), tmp_path / 'work'
    done = run_tool(TOOL, 'run', study, '--work-dir', work, '--jobs', 2, check=False)
    assert done.returncode == 1, done.stderr
    assert '1 of 3 runs failed: runs/unet/1.0/seed0' in done.stdout
    note = json.loads((work / 'runs/unet/1.0/seed0/failed.json').read_text())
    assert note['exit_code'] == 1
    assert "'many'" in note['error'] or 'str' in note['error']
    assert note['error'] in done.stdout

    status = run_tool(TOOL, 'status', study, '--work-dir', work)
    assert '3 runs: 2 done, 1 failed; no run is at work' in status.stdout
    (rows, _), missing = results(study, work, tmp_path / 'out')
    assert missing == 1
    assert [line.split(',')[0] for line in rows.decode().splitlines()] == ['experiment', 'prithvi']
    # It started from what the pre-training had learnt.
    log = (work / 'runs/prithvi/1.0/seed0/train.log').read_text()
    assert f'{work}/pretraining/first/iter_1.pth' in log


def test_submitit_gives_what_local_slots_give(pair, chips, run_tool, tmp_path):
    pytest.importorskip('submitit')
    work, one = tmp_path / 'work', tmp_path / 'study.py'
    two_runs(chips, one, seeds=[0])
    slurm = ('--launcher', 'slurm', '--slurm', 'cluster=local')
    done = run_tool(TOOL, 'run', one, '--work-dir', work, *slurm)
    assert 'All 1 runs are finished' in done.stdout
    assert len(list((work / 'slurm').glob('*_result.pkl'))) == 1
    (ours, _), _ = results(one, work, tmp_path / 'a')
    (theirs, _), _ = results(*pair, tmp_path / 'b')
    assert ours.splitlines() == theirs.splitlines()[:2]


def call(monkeypatch, capsys, *arguments):
    """Run the tool in this process; gives its exit code and last line."""
    monkeypatch.setattr('sys.argv', [TOOL, *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / TOOL), run_name='__main__')
    return end.value.code, capsys.readouterr().err.splitlines()[-1]


def test_a_second_run_of_a_study_is_refused(pair, monkeypatch, capsys):
    study, work = pair
    with Ledger(work, []).lock(jobs=1):
        code, line = call(monkeypatch, capsys, 'run', study, '--work-dir', work)
    assert code == 2
    assert 'Another run of this study is at work' in line


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--jobs', '0'], '--jobs must be at least 1'),
        (['--launcher', 'slurm'], 'finds no srun'),
        (['--launcher', 'slurm', '--slurm', 'cluster=local', 'nodez=2'], 'nodez'),
        (['--slurm', 'nodes=2'], '--slurm is for --launcher slurm'),
    ],
    ids=['jobs', 'no slurm', 'option', 'launcher'],
)
def test_wrong_options_are_one_sentence(pair, monkeypatch, capsys, tmp_path, arguments, message):
    work = tmp_path / 'work'
    monkeypatch.setenv('PATH', str(tmp_path))  # no srun, wherever the tests run
    code, line = call(monkeypatch, capsys, 'run', pair[0], '--work-dir', work, *arguments)
    assert code == 2
    assert line.startswith('error: ')
    assert message in line
    assert not (work / 'runs').exists()
