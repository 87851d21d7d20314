# Prithvi-EO-1.0-100M, time fused by a 1 x 1 convolution, light upsampling, MMSeg's FCN head.
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='HLSDataPreprocessor', normalization='v1', num_frames=3),
    backbone=dict(type='PrithviViT', arch='v1-100M', num_frames=3, img_size=224),
    neck=[
        dict(type='TemporalFuse', in_channels=[3 * 768], out_channels=256),
        dict(type='ProgressiveUpsample', in_channels=256, channels=[128, 96, 64]),
    ],
    decode_head=dict(
        type='FCNHead',
        in_channels=64,
        in_index=0,
        channels=64,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=9,
        norm_cfg=dict(type='GN', num_groups=8),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
tta_model = dict(type='SegTTAModel')
