"""What makes a finished run another run, and who may work in a study's folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import geoseg_prithvi
from geoseg_prithvi.errors import ConfigError
from geoseg_prithvi.experiments import ledger as module
from geoseg_prithvi.experiments.ledger import CODE, DONE, FAILED, STARTED, Ledger, code_hash
from geoseg_prithvi.experiments.runs import expand
from geoseg_prithvi.experiments.study import load_study

from ..test_tools.conftest import make_chips
from .tiny_study import PRITHVI, SMALL, data_options, tiny_study, write_study

PACKAGE = Path(geoseg_prithvi.__file__).parent


@pytest.fixture(scope='module')
def chips(tmp_path_factory):
    return make_chips(tmp_path_factory.mktemp('chips'), 32, dict(train=8, val=2, test=2))


def opened(tmp_path, content, work='work'):
    study = load_study(write_study(tmp_path / 'study.py', content), str(tmp_path / work))
    runs = expand(study)
    return Ledger(study.work_dir, runs), runs


def finish(ledger, run, name=DONE, **note):
    folder = ledger.folder(run)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(dict(key=ledger.key(run), **note)))


def test_a_run_is_done_when_its_note_has_the_key_of_now(chips, tmp_path):
    ledger, runs = opened(tmp_path, tiny_study(chips))
    assert [ledger.look(run).state for run in runs] == ['missing'] * 4
    finish(ledger, runs[0])
    finish(ledger, runs[1], FAILED, error='no')
    (ledger.folder(runs[2])).mkdir(parents=True)
    (ledger.folder(runs[2]) / STARTED).write_text('{}')
    assert [ledger.look(run).state for run in runs] == ['done', 'failed', 'missing', 'missing']
    states = [ledger.look(run, running=True).state for run in runs]
    assert states == ['done', 'failed', 'running', 'missing']


@pytest.mark.parametrize(
    ('option', 'state'),
    [({}, 'done'), ({'optim_wrapper.optimizer.lr': 1.0}, 'stale')],
    ids=['same', 'other'],
)
def test_a_changed_config_is_no_finished_run(chips, tmp_path, option, state):
    ledger, runs = opened(tmp_path, tiny_study(chips))
    finish(ledger, runs[0])
    changed = tiny_study(chips, cfg_options=data_options(chips) | option)
    ledger, runs = opened(tmp_path, changed)
    entry = ledger.look(runs[0])
    assert entry.state == state
    assert entry.changed == (['the config'] if option else [])


def test_other_chips_of_the_same_number_are_another_run(chips, tmp_path):
    ledger, runs = opened(tmp_path, tiny_study(chips))
    finish(ledger, runs[2])
    other = make_chips(tmp_path / 'other', 32, dict(train=8, val=2, test=2), seed=5)
    ledger, runs = opened(tmp_path, tiny_study(other))
    assert 'the chip index' in ledger.look(runs[2]).changed


def test_a_study_that_moves_with_its_data_stays_finished(chips, tmp_path):
    ledger, runs = opened(tmp_path, tiny_study(chips))
    finish(ledger, runs[2])
    moved = tmp_path / 'moved'
    moved.symlink_to(chips)
    (tmp_path / 'work').rename(tmp_path / 'elsewhere')
    ledger, runs = opened(tmp_path, tiny_study(moved), 'elsewhere')
    assert ledger.look(runs[2]).state == 'done'


def test_what_starts_from_a_pretraining_waits_for_it_and_changes_with_it(chips, tmp_path):
    options = {**data_options(chips), **SMALL}
    content = tiny_study(chips, pretraining=dict(p=dict(config=str(PRITHVI), cfg_options=options)))
    content['experiments']['prithvi']['init'] = 'p'
    ledger, (first, dependent, free, *_) = opened(tmp_path, content)
    assert (first.name, dependent.init) == ('pretraining/p', 'pretraining/p')
    assert ledger.final_config(dependent) is None
    assert ledger.key(free) is not None

    finish(ledger, first, checkpoint='iter_2.pth')
    weights = ledger.folder(first) / 'iter_2.pth'
    weights.write_bytes(b'1')
    assert ledger.final_config(dependent).model.backbone.init_cfg.checkpoint == str(weights)
    finish(ledger, dependent)
    assert ledger.look(dependent).state == 'done'
    weights.write_bytes(b'22')
    assert ledger.look(dependent).changed == ['the weights it starts from']


def test_the_key_covers_all_code_that_a_run_imports():
    """But for what only draws, writes files or words errors."""
    code = (
        'import sys, geoseg_prithvi, geoseg_prithvi.engine.launch\n'
        'print(*(m.__file__ for n, m in sys.modules.items() if n.startswith("geoseg_prithvi")))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    used = {Path(name).relative_to(PACKAGE).as_posix() for name in done.stdout.split()}
    covered = {name for name in used if name in CODE or name.split('/')[0] in CODE}
    rest = {name for name in used - covered if not name.startswith('visualization')}
    assert rest == {'__init__.py', 'errors.py', 'version.py', 'data/__init__.py', 'data/files.py'}
    assert all((PACKAGE / part).exists() for part in CODE)


def test_comments_do_not_change_the_code_and_numbers_do(tmp_path, monkeypatch):
    package = tmp_path / 'package'
    for part in CODE:
        path = package / part
        path.parent.mkdir(parents=True, exist_ok=True)
        if part.endswith('.py'):
            path.write_text('')
        else:
            path.mkdir()
    (package / '__init__.py').write_text('')
    monkeypatch.setattr(module.geoseg_prithvi, '__file__', str(package / '__init__.py'))
    digests = []
    documented = '"""A."""\ndef f():\n    """B."""\n    return 1\n'
    for i, text in enumerate([documented, 'def f(): return 1  # one\n', 'def f(): return 2\n']):
        (package / 'models/a.py').write_text(text)
        os.utime(package / 'models/a.py', (i, i))
        digests.append(code_hash())
    assert digests[0] == digests[1] != digests[2]


def test_one_run_works_in_a_folder_at_a_time(tmp_path):
    ledger = Ledger(tmp_path / 'work', [])
    assert ledger.owner() is None
    with ledger.lock(jobs=3):
        assert ledger.owner() == dict(pid=os.getpid(), jobs=3)
        with pytest.raises(ConfigError, match='Another run of this study'), ledger.lock(1):
            pass
    assert ledger.owner() is None


def test_the_next_run_waits_for_the_processes_of_a_killed_one(tmp_path):
    """They inherit the lock: here a `sleep` that outlives its parent by 3 seconds."""
    ledger = Ledger(tmp_path / 'work', [])
    code = (
        'import subprocess, sys, time\n'
        'from pathlib import Path\n'
        'from geoseg_prithvi.experiments.ledger import Ledger\n'
        f'with Ledger(Path({str(tmp_path / "work")!r}), []).lock(1) as lock:\n'
        '    subprocess.Popen(["sleep", "3"], pass_fds=(lock,))\n'
        '    print("locked", flush=True)\n'
        '    time.sleep(60)\n'
    )
    process = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'locked\n'
    process.send_signal(signal.SIGKILL)
    process.wait()
    begin = time.monotonic()
    with ledger.lock(jobs=1):
        assert 0.5 < time.monotonic() - begin < 10
    process.stdout.close()
