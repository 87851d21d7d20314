import numpy as np
import pytest

from geoseg_prithvi.data.balance import effective_number_weights, median_frequency_weights
from geoseg_prithvi.errors import ConfigError

PIXELS = np.array([[80, 20, 0, 0], [60, 0, 40, 0], [100, 0, 0, 0]])


def test_median_frequency():
    """a: 240 of 300, b: 20 of 100, c: 40 of 100; the median is 0.4; d is absent."""
    assert median_frequency_weights(PIXELS) == pytest.approx([0.5, 2.0, 1.0, 0.0])


def test_effective_number():
    """In chips: a 2.4, b 0.2, c 0.4. With beta = 0.5: (1 - 0.5) / (1 - 0.5**n)."""
    raw = 0.5 / (1 - 0.5 ** np.array([2.4, 0.2, 0.4]))
    assert effective_number_weights(PIXELS, 0.5) == pytest.approx([*raw / raw.mean(), 0])
    assert effective_number_weights(PIXELS, 0.0) == pytest.approx([1, 1, 1, 0])
    near_inverse = effective_number_weights(PIXELS, 1 - 1e-9)[:3] * [2.4, 0.2, 0.4]
    assert np.ptp(near_inverse) < 1e-6 * near_inverse.mean()
    one_pixel = effective_number_weights([[10**6, 1]])
    assert np.isfinite(one_pixel).all()
    assert one_pixel[1] > 100 * one_pixel[0]


@pytest.mark.parametrize('beta', [-0.1, 1.0])
def test_beta_out_of_range(beta):
    with pytest.raises(ConfigError, match='beta must be'):
        effective_number_weights(PIXELS, beta)
