import mmseg
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.models.decode_heads import FCNHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch.nn import functional

WEIGHTS = [0.5, 2.0, 1.0, 0.0]
IGNORE = 255


@pytest.fixture
def sample():
    """Logits, and labels with ignored pixels; class 3 is absent."""
    torch.manual_seed(0)
    label = torch.randint(0, 3, (2, 8, 8))
    label[:, :2] = IGNORE
    return torch.randn(2, 4, 8, 8, requires_grad=True), label


def build(**cfg):
    return MODELS.build(cfg)


@pytest.mark.parametrize('weights', [None, WEIGHTS])
def test_gamma_0_is_torch_cross_entropy(sample, weights):
    logits, label = sample
    expected = functional.cross_entropy(
        logits,
        label,
        weight=None if weights is None else torch.tensor(weights),
        ignore_index=IGNORE,
    )
    ours = build(type='SoftmaxFocalLoss', gamma=0.0, class_weight=weights)(logits, label)
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)


def test_focal_by_hand():
    """p_y = 0.9 and 0.5; weights 1 and 3."""
    logits = torch.tensor([[[[0.9, 0.5]], [[0.1, 0.5]]]]).log()
    label = torch.tensor([[[0, 1]]])
    ours = build(type='SoftmaxFocalLoss', gamma=2.0, class_weight=[1.0, 3.0], loss_weight=2.0)
    expected = 2 * (0.1**2 * -torch.tensor(0.9).log() + 3 * 0.5**2 * -torch.tensor(0.5).log()) / 4
    assert ours(logits, label).item() == pytest.approx(expected.item(), rel=1e-4)


def test_dice_by_hand():
    """Class 0: 2 * 0.9 / (1.4 + 1); class 1: 2 * 0.5 / (0.6 + 1); the third is absent."""
    logits = torch.tensor([[[[0.9, 0.5]], [[0.1, 0.5]], [[1e-9, 1e-9]]]]).log()
    label = torch.tensor([[[0, 1]]])
    ours = build(type='MultiClassDiceLoss', eps=0.0)(logits, label)
    assert ours.item() == pytest.approx(1 - (1.8 / 2.4 + 1.0 / 1.6) / 2, rel=1e-4)


def test_dice_counts_classes_not_pixels():
    """A rare class that is missed costs as much as a common one, however few its pixels."""
    label = torch.zeros(1, 32, 32, dtype=torch.long)
    label[0, 0, :4] = 1
    logits = 20.0 * functional.one_hot(torch.zeros_like(label), 2).permute(0, 3, 1, 2)
    loss = build(type='MultiClassDiceLoss', eps=1e-3)(logits, label)
    assert loss.item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize('name', ['SoftmaxFocalLoss', 'MultiClassDiceLoss'])
def test_ignored_pixels_have_no_part(sample, name):
    logits, label = sample
    loss = build(type=name, class_weight=WEIGHTS)
    value = loss(logits, label)
    value.backward()
    assert logits.grad[:, :, :2].abs().max() == 0
    assert logits.grad[:, :, 2:].abs().max() > 0
    changed = logits.detach().clone()
    changed[:, :, :2] = 7.0
    assert loss(changed, label).item() == value.item()
    nothing = loss(logits, torch.full_like(label, IGNORE))
    assert nothing.item() == 0
    nothing.backward()
    assert logits.grad.isfinite().all()


ONEDL = tuple(map(int, mmseg.__version__.split('.')[:2])) >= (1, 3)


@pytest.mark.parametrize(
    'loss',
    [
        dict(type='SoftmaxFocalLoss', gamma=0.0, class_weight=WEIGHTS),
        dict(type='SoftmaxFocalLoss', gamma=2.0, class_weight=WEIGHTS),
        dict(type='MultiClassDiceLoss'),
        dict(type='LovaszLoss', reduction='none', class_weight=WEIGHTS),
        [
            dict(type='SoftmaxFocalLoss', class_weight=WEIGHTS),
            dict(type='MultiClassDiceLoss', loss_weight=0.5),
        ],
        pytest.param(
            dict(type='CrossEntropyLoss', class_weight=WEIGHTS),
            marks=pytest.mark.skipif(not ONEDL, reason='fails on ignored pixels in OpenMMLab'),
        ),
    ],
    ids=['ce', 'focal', 'dice', 'lovasz', 'focal_dice', 'stock_ce'],
)
def test_config_lines_of_the_docs_train_a_head(loss):
    """Each is learnt from, reaches the right answer on what counts, and ignores the rest."""
    torch.manual_seed(0)
    head = FCNHead(
        in_channels=4,
        channels=8,
        num_convs=1,
        kernel_size=1,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=4,
        align_corners=False,
        loss_decode=loss,
    )
    truth = torch.randint(0, 3, (2, 8, 8))
    features = functional.one_hot(truth, 4).permute(0, 3, 1, 2).float()
    label = truth.clone()
    label[:, :2] = IGNORE

    def total(features):
        samples = [SegDataSample(gt_sem_seg=PixelData(data=each[None])) for each in label]
        losses = head.loss([features], samples, dict())
        return sum(value for name, value in losses.items() if 'loss' in name)

    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        total(features).backward()
        optimizer.step()
    head.eval()
    assert torch.equal(head([features]).argmax(1), truth)
    features.requires_grad_()
    total(features).backward()
    assert features.grad[:, :, :2].abs().max() == 0
