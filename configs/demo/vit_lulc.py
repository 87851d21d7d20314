# The ViT baseline on the embedded world, from random weights like everything there.
_base_ = ['./prithvi_lulc.py']
model = dict(
    backbone=dict(
        _delete_=True,
        type='TimmViT',
        num_frames=3,
        img_size=64,
        patch_size=8,
        embed_dims=128,
        num_layers=4,
        num_heads=4,
    ),
    neck=[
        dict(type='TemporalFuse', in_channels=[128], out_channels=128),
        dict(type='ProgressiveUpsample', in_channels=128, channels=[96, 64, 32]),
    ],
)
