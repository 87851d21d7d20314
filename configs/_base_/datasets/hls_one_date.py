# Chips of a single date.
_base_ = ['./hls_lulc.py']
num_frames = 1
load = dict(type='LoadHLSChip', num_frames=num_frames)
train_pipeline = [load, *_base_.train_pipeline[1:]]
test_pipeline = [load, *_base_.test_pipeline[1:]]
tta_pipeline = [load, *_base_.tta_pipeline[1:]]
train_dataloader = dict(dataset=dict(num_frames=num_frames, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(num_frames=num_frames, pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(num_frames=num_frames, pipeline=test_pipeline))
