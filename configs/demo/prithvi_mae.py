# Self-supervised pre-training of the encoder of prithvi_lulc.py on unlabelled tiles of the embedded
# world (docs/pretraining.md says how they are made).
_base_ = ['../pretrain/prithvi_mae_100m.py']
data_root = 'data/demo/unlabelled'
model = dict(
    encoder=dict(
        arch=dict(_delete_=True, embed_dims=128, depth=4, num_heads=4, patch_size=8, mlp_ratio=4),
        img_size=64,
    ),
    decoder=dict(embed_dims=64, depth=2, num_heads=4),
    # Clouds are bright and cannot be foretold: unnormalised, they are most of the loss.
    norm_pix_loss=True,
    init_cfg=None,
)
max_iters = 10000
train_dataloader = dict(batch_size=16, num_workers=1, dataset=dict(data_root=data_root))
val_dataloader = dict(batch_size=64, num_workers=1, dataset=dict(data_root=data_root))
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=500),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=500, end=max_iters, eta_min=0.0),
]
train_cfg = dict(max_iters=max_iters, val_interval=1000)
default_hooks = dict(checkpoint=dict(interval=1000))
