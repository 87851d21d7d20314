# Prithvi-EO-2.0-100M-TL.
# GeoEncoderDecoder passes the dates and the location of each chip to the encoder.
_base_ = ['./prithvi_lulc.py']
model = dict(
    type='GeoEncoderDecoder',
    data_preprocessor=dict(normalization='v2'),
    backbone=dict(
        arch='v2-100M-TL',
        init_cfg=dict(
            checkpoint='hf://ibm-nasa-geospatial/Prithvi-EO-2.0-100M-TL/'
            'Prithvi_EO_V2_100M_TL.pt@2c84e383194986040f883cc43d7869002c425e1b'
        ),
    ),
    neck=[
        dict(type='TemporalFuse', in_channels=[3 * 768], out_channels=256),
        dict(type='ProgressiveUpsample', in_channels=256, channels=[128, 96, 64]),
    ],
)
