# Prithvi's architecture from random weights: what pre-training is worth.
_base_ = ['./prithvi_lulc.py']
model = dict(backbone=dict(init_cfg=None))
# No layer knows anything yet, so none is held back.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))
