from pathlib import Path

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'


@pytest.fixture(autouse=True, scope='session')
def _one_thread():
    torch.set_num_threads(1)


def load_golden(name: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return the state dict and the other arrays of a file of reference vectors."""
    with np.load(GOLDEN / f'{name}.npz') as file:
        arrays = {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}
    state = {k.removeprefix('state/'): v for k, v in arrays.items() if k.startswith('state/')}
    return state, {k: v for k, v in arrays.items() if not k.startswith('state/')}


@pytest.fixture(scope='session')
def golden():
    return load_golden
