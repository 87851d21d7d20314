import numpy as np
import pytest
import torch

from geoseg_prithvi.errors import ConfigError, LabelError
from geoseg_prithvi.evaluation.calibration import (
    BINS,
    HIGHEST,
    LOWEST,
    confidence_bins,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    plot_reliability,
)


def sure_logits(count=40_000, K=5, temperature=1.0, seed=0):
    """Logits whose softmax, after division by ``temperature``, is the true chance of the label."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, K, generator=generator)
    label = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return logits * temperature, label


@pytest.mark.parametrize('temperature', [0.5, 1.0, 3.0])
def test_temperature_is_found(temperature):
    assert fit_temperature(*sure_logits(temperature=temperature)) == pytest.approx(
        temperature, rel=0.02
    )


def test_temperature_is_the_minimum_of_the_likelihood():
    logits, label = sure_logits(2000, temperature=2.0)
    found = fit_temperature(logits, label)
    best = negative_log_likelihood(logits / found, label)
    for other in (0.99 * found, 1.01 * found):
        assert negative_log_likelihood(logits / other, label) > best


def test_temperature_makes_the_error_small():
    logits, label = sure_logits(temperature=3.0)
    before, after = (
        expected_calibration_error(confidence_bins((logits / t).T, label, 255))
        for t in (1.0, fit_temperature(logits, label))
    )
    assert before > 0.15
    assert after < 0.01


def test_hopeless_and_faultless_models_stay_in_the_range():
    logits, label = sure_logits(500)
    assert fit_temperature(-logits, label) == HIGHEST
    assert fit_temperature(logits, logits.argmax(1)) == LOWEST
    with pytest.raises(LabelError, match='No pixel'):
        fit_temperature(logits[:0], label[:0])


def test_large_logits_do_not_overflow():
    logits = torch.tensor([[2000.0, 0.0], [2000.0, 0.0], [2000.0, 0.0], [0.0, 2000.0]])
    assert fit_temperature(logits, torch.tensor([0, 0, 0, 0])) == HIGHEST


def test_bins_by_hand():
    # Confidence 0.75 three times, right twice; 0.55 once, wrong; one pixel without label.
    share = torch.tensor([[0.75, 0.75, 0.25, 0.45, 0.9], [0.25, 0.25, 0.75, 0.55, 0.1]])
    label = torch.tensor([0, 1, 1, 0, 255])
    bins = confidence_bins(share.log(), label, 255)
    assert bins.shape == (BINS, 3)
    np.testing.assert_allclose(bins[11], [3, 2.25, 2], rtol=1e-6)  # (11/15, 12/15]
    np.testing.assert_allclose(bins[8], [1, 0.55, 0], rtol=1e-6)  # (8/15, 9/15]
    assert bins[:, 0].sum() == 4
    assert expected_calibration_error(bins) == pytest.approx((0.25 + 0.55) / 4)


def test_bins_of_images_add_up():
    logits, label = sure_logits(100)
    whole = confidence_bins(logits.T, label, 255)
    parts = [confidence_bins(logits[i].T, label[i], 255) for i in (slice(30), slice(30, 100))]
    np.testing.assert_allclose(sum(parts), whole)
    assert np.isnan(expected_calibration_error(np.zeros((BINS, 3))))


def test_a_single_channel_is_refused():
    with pytest.raises(ConfigError, match='single one'):
        confidence_bins(torch.zeros(1, 4), torch.zeros(4), 255)


def test_plot(tmp_path):
    logits, label = sure_logits(2000, temperature=2.0)
    bins = {f'{t}': confidence_bins((logits / t).T, label, 255) for t in (1.0, 2.0)}
    plot_reliability(bins, tmp_path / 'r.png', title='Reliability')
    assert (tmp_path / 'r.png').read_bytes().startswith(b'\x89PNG')
