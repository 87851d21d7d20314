# The study's model: Prithvi-EO-1.0-100M fine-tuned, 3 frames of 224 x 224 px, 9 classes.
_base_ = [
    '_base_/models/prithvi_fcn.py',
    '_base_/datasets/hls_lulc.py',
    '_base_/schedules/schedule_5k.py',
    '_base_/default_runtime.py',
]
model = dict(
    backbone=dict(
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='hf://ibm-nasa-geospatial/Prithvi-EO-1.0-100M/'
            'Prithvi_EO_V1_100M.pt@f3a9ea7a1723621b0aeceb4de993093704d712c5',
        ),
    )
)
