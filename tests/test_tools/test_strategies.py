"""Fine-tuning strategies through the stock runner, as a user turns them on."""

import pytest

from geoseg_prithvi.compat import load_checkpoint_file

from .conftest import DEMO, demo_options

pytestmark = pytest.mark.slow


def test_a_compiled_model_trains(chips, run_tool, tmp_path):
    # aot_eager traces as the default backend does, and needs no C++ compiler
    options = demo_options(chips, train_cfg__max_iters=2, compile__backend='aot_eager')
    done = run_tool('tools/train.py', DEMO, '--work-dir', tmp_path, *options)
    assert 'Model has been "compiled"' in done.stdout + done.stderr
    before, after = (load_checkpoint_file(tmp_path / f'iter_{i}.pth')['state_dict'] for i in (1, 2))
    # the names are those of the plain model, and every weight of the encoder has learned
    assert 'backbone.blocks.0.attn.qkv.weight' in after
    assert all(v.isfinite().all() for v in after.values())
    assert all(not v.equal(before[k]) for k, v in after.items() if k.startswith('backbone.'))


def test_lora_is_trained_resumed_and_published(chips, run_tool, tmp_path):
    lora = dict(model__backbone__lora__rank=4, model__backbone__lora__alpha=8)
    work = tmp_path / 'work'
    for iterations, resume in ((2, ()), (3, ('--resume',))):
        options = demo_options(chips, train_cfg__max_iters=iterations, **lora)
        run_tool('tools/train.py', DEMO, '--work-dir', work, *resume, *options)
    first, last = (load_checkpoint_file(work / f'iter_{i}.pth')['state_dict'] for i in (2, 3))
    changed = {k for k in first if k.startswith('backbone.') and not first[k].equal(last[k])}
    layers = ('backbone.blocks.0.attn.qkv', 'backbone.blocks.0.attn.proj')
    assert changed == {f'{layer}.lora_{x}' for layer in layers for x in 'ab'}

    out = tmp_path / 'lora.safetensors'
    options = demo_options(chips, **lora)
    run_tool('tools/publish_model.py', work / 'iter_3.pth', DEMO, out, *options)
    options = demo_options(chips)  # without LoRA
    done = run_tool('tools/test.py', DEMO, out, '--work-dir', tmp_path / 'test', *options)
    assert 'mIoU' in done.stdout + done.stderr
