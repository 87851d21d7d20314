# HLS chips without labels, as tools/prepare_data.py --unlabelled writes them. Labelled ones serve
# too: their labels are not read.
data_root = 'data/unlabelled'
num_frames = 3
meta_keys = (
    'chip_id',
    'img_path',
    'ori_shape',
    'img_shape',
    'flip',
    'flip_direction',
    'dates',
    'sensors',
    'temporal_coords',
    'location_coords',
)
train_pipeline = [
    dict(type='LoadHLSChip', num_frames=num_frames),
    # Together all eight orientations of a chip, with equal probability.
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomRotFlip', rotate_prob=0.0, flip_prob=1.0),
    dict(type='PackSegInputs', meta_keys=meta_keys),
]
val_pipeline = [
    dict(type='LoadHLSChip', num_frames=num_frames),
    dict(type='PackSegInputs', meta_keys=meta_keys),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='HLSSegDataset',
        data_root=data_root,
        split='train',
        num_frames=num_frames,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='HLSSegDataset',
        data_root=data_root,
        split='val',
        num_frames=num_frames,
        pipeline=val_pipeline,
    ),
)
val_evaluator = dict(type='ReconstructionMetric')
