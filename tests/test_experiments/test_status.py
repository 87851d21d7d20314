import time

import pytest

from geoseg_prithvi.experiments.runs import Run
from geoseg_prithvi.experiments.status import duration, remaining_seconds


def test_the_time_left_follows_the_runs_of_the_same_experiment():
    runs = [Run(name=f'{e}{i}', config=None, experiment=e) for e in 'ab' for i in range(4)]
    notes = dict(a0=dict(seconds=dict(train=90, test=10)), b0=dict(seconds=dict(train=8, test=2)))
    waiting, running = [runs[2], runs[3], runs[6]], {runs[1]: time.time() - 40}
    # 100 + 100 + 10 to begin, 60 of a1 left, two at a time
    assert remaining_seconds(runs, notes, waiting, running, 2) == pytest.approx(135, abs=0.5)
    # as many at a time as there are runs left, at the most
    assert remaining_seconds(runs, notes, [runs[2]], {}, 8) == 100
    assert remaining_seconds(runs, {}, waiting, running, 2) is None


@pytest.mark.parametrize(
    ('seconds', 'words'), [(12.4, '12 s'), (100, '2 min'), (7490, '2 h 05 min')]
)
def test_durations(seconds, words):
    assert duration(seconds) == words
