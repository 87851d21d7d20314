# HLS chips with IO/Esri labels, as tools/prepare_data.py writes them.
data_root = 'data/lulc/chips'
num_frames = 3
meta_keys = (
    'chip_id',
    'img_path',
    'seg_map_path',
    'ori_shape',
    'img_shape',
    'flip',
    'flip_direction',
    'dates',
    'sensors',
    'temporal_coords',
    'location_coords',
    'epsg',
    'bounds',
    'block',
)
train_pipeline = [
    dict(type='LoadHLSChip', num_frames=num_frames),
    dict(type='LoadHLSLabel'),
    # Together all eight orientations of a chip, with equal probability.
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomRotFlip', rotate_prob=0.0, flip_prob=1.0),
    dict(type='PackSegInputs', meta_keys=meta_keys),
]
test_pipeline = [
    dict(type='LoadHLSChip', num_frames=num_frames),
    dict(type='LoadHLSLabel'),
    dict(type='PackSegInputs', meta_keys=meta_keys),
]
tta_pipeline = [
    dict(type='LoadHLSChip', num_frames=num_frames),
    dict(type='LoadHLSLabel'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='RandomFlip', prob=0.0),
                dict(type='RandomFlip', prob=1.0, direction='horizontal'),
                dict(type='RandomFlip', prob=1.0, direction='vertical'),
            ],
            [dict(type='PackSegInputs', meta_keys=meta_keys)],
        ],
    ),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='ClassBalancedSampler', infinite=True, temperature=0.5),
    dataset=dict(
        type='HLSSegDataset',
        data_root=data_root,
        split='train',
        num_frames=num_frames,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='HLSSegDataset',
        data_root=data_root,
        split='val',
        num_frames=num_frames,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='HLSSegDataset',
        data_root=data_root,
        split='test',
        num_frames=num_frames,
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type='LULCMetric')
test_evaluator = dict(type='LULCMetric')
