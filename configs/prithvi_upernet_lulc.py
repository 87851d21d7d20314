# A pyramid of four blocks and MMSeg's UPerNet head instead of light upsampling.
_base_ = ['./prithvi_lulc.py']
norm_cfg = dict(type='GN', num_groups=32)
model = dict(
    backbone=dict(out_indices=(2, 5, 8, 11)),
    neck=[
        dict(type='TemporalFuse', in_channels=[3 * 768] * 4, out_channels=256),
        dict(type='Feature2Pyramid', embed_dim=256, rescales=[4, 2, 1, 0.5], norm_cfg=norm_cfg),
    ],
    decode_head=dict(
        _delete_=True,
        type='UPerHead',
        in_channels=[256] * 4,
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=256,
        dropout_ratio=0.1,
        num_classes=9,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
)
