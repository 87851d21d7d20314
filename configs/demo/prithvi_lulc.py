# A small Prithvi from random weights on the embedded world: the same road, sized for two CPU cores.
_base_ = ['../prithvi_lulc.py']
data_root = 'data/demo/chips'
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=128, depth=4, num_heads=4, patch_size=8, mlp_ratio=4),
        img_size=64,
        drop_path_rate=0.0,
        init_cfg=None,
    ),
    neck=[
        dict(type='TemporalFuse', in_channels=[3 * 128], out_channels=128),
        dict(type='ProgressiveUpsample', in_channels=128, channels=[96, 64, 32]),
    ],
    decode_head=dict(in_channels=32, channels=32),
)
max_iters = 800
train_dataloader = dict(batch_size=16, num_workers=1, dataset=dict(data_root=data_root))
val_dataloader = dict(batch_size=32, num_workers=1, dataset=dict(data_root=data_root))
test_dataloader = dict(batch_size=32, num_workers=1, dataset=dict(data_root=data_root))
optim_wrapper = dict(optimizer=dict(lr=2e-3), paramwise_cfg=dict(layer_decay_rate=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=max_iters, eta_min=0.0),
]
train_cfg = dict(max_iters=max_iters, val_interval=200)
default_hooks = dict(checkpoint=dict(interval=200))
