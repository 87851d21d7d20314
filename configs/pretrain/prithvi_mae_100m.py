# Prithvi-EO-1.0-100M goes on learning, without labels, on chips of your own region: 3 frames of
# 224 x 224 px, three quarters of the tokens hidden. The checkpoint is an init_cfg as it is:
#   tools/train.py configs/prithvi_lulc.py --cfg-options \
#       model.backbone.init_cfg.checkpoint=work_dirs/prithvi_mae_100m/iter_20000.pth
_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/hls_unlabelled.py',
    '../_base_/schedules/schedule_mae.py',
]
model = dict(
    type='PrithviMAE',
    data_preprocessor=dict(type='HLSDataPreprocessor', normalization='v1', num_frames=3),
    encoder=dict(arch='v1-100M', num_frames=3, img_size=224),
    # The decoder of the published model, whose weights are loaded too.
    decoder=dict(embed_dims=512, depth=8, num_heads=16),
    mask_ratio=0.75,
    exclude_nodata=True,
    init_cfg=dict(
        type='Pretrained',
        checkpoint='hf://ibm-nasa-geospatial/Prithvi-EO-1.0-100M/'
        'Prithvi_EO_V1_100M.pt@f3a9ea7a1723621b0aeceb4de993093704d712c5',
    ),
)
default_hooks = dict(
    # The best is that of the lowest reconstruction loss on the validation chips.
    checkpoint=dict(interval=1000, save_best='val/mse', rule='less'),
    visualization=dict(type='MAEVisualizationHook'),
)
