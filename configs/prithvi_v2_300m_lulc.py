# Prithvi-EO-2.0-300M.
_base_ = ['./prithvi_lulc.py']
model = dict(
    data_preprocessor=dict(normalization='v2'),
    backbone=dict(
        arch='v2-300M',
        init_cfg=dict(
            checkpoint='hf://ibm-nasa-geospatial/Prithvi-EO-2.0-300M/'
            'Prithvi_EO_V2_300M.pt@b2f2520ab889f42a25c5361ba18761fcb4ea44ad'
        ),
    ),
    neck=[
        dict(type='TemporalFuse', in_channels=[3 * 1024], out_channels=256),
        dict(type='ProgressiveUpsample', in_channels=256, channels=[128, 96, 64]),
    ],
)
