# Baseline: MMSeg's U-Net from random weights on the data, head and schedule of prithvi_lulc.py.
_base_ = ['./prithvi_lulc.py']
model = dict(
    # Batch norm as published: the 4 chips of a batch give it 4 x 224 x 224 pixels a channel.
    backbone=dict(_delete_=True, type='UNet', in_channels=18, base_channels=64),
    neck=None,
    decode_head=dict(in_index=4),  # the last of its maps: 64 channels at full resolution
)
# Nothing is pre-trained, so every layer has the full learning rate.
optim_wrapper = dict(constructor='DefaultOptimWrapperConstructor', paramwise_cfg=None)
