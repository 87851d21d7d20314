# Prithvi-EO-2.0-tiny-TL (6 M parameters): the model for a laptop.
# GeoEncoderDecoder passes the dates and the location of each chip to the encoder.
_base_ = ['./prithvi_lulc.py']
model = dict(
    type='GeoEncoderDecoder',
    data_preprocessor=dict(normalization='v2'),
    backbone=dict(
        arch='v2-tiny-TL',
        init_cfg=dict(
            checkpoint='hf://ibm-nasa-geospatial/Prithvi-EO-2.0-tiny-TL/'
            'Prithvi_EO_V2_tiny_TL.pt@335eadc2c45ad5abe7bd307223e1c48c5b60c41b'
        ),
    ),
    neck=[
        dict(type='TemporalFuse', in_channels=[3 * 192], out_channels=256),
        dict(type='ProgressiveUpsample', in_channels=256, channels=[128, 96, 64]),
    ],
)
