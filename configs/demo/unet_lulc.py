# The U-Net baseline on the embedded world.
_base_ = ['./prithvi_lulc.py']
model = dict(
    backbone=dict(_delete_=True, type='UNet', in_channels=18, base_channels=32),
    neck=None,
    decode_head=dict(in_index=4),
)
optim_wrapper = dict(constructor='DefaultOptimWrapperConstructor', paramwise_cfg=None)
