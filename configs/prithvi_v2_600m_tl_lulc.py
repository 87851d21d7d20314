# Prithvi-EO-2.0-600M-TL.
# GeoEncoderDecoder passes the dates and the location of each chip to the encoder.
# Patches of 14 px: other chips than 224 px are padded to a multiple, and results cut back.
_base_ = ['./prithvi_lulc.py']
model = dict(
    type='GeoEncoderDecoder',
    data_preprocessor=dict(normalization='v2', size_divisor=14),
    backbone=dict(
        arch='v2-600M-TL',
        init_cfg=dict(
            checkpoint='hf://ibm-nasa-geospatial/Prithvi-EO-2.0-600M-TL/'
            'Prithvi_EO_V2_600M_TL.pt@3d72adc6dfc4cc3862bf4f41da8c83db267193c9'
        ),
        with_cp=True,
    ),
    neck=[
        dict(type='TemporalFuse', in_channels=[3 * 1280], out_channels=256),
        dict(type='ProgressiveUpsample', in_channels=256, channels=[128, 96, 64]),
    ],
)
