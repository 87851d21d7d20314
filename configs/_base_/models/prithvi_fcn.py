# Prithvi-EO-1.0-100M, time fused by a 1 x 1 convolution, light upsampling, MMSeg's FCN head.
num_classes = 9
num_frames = 3
norm_cfg = dict(type='GN', num_groups=32)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='HLSDataPreprocessor', normalization='v1', num_frames=num_frames),
    backbone=dict(type='PrithviViT', arch='v1-100M', num_frames=num_frames, img_size=224),
    neck=[
        dict(
            type='TemporalFuse',
            in_channels=[num_frames * 768],
            out_channels=256,
            norm_cfg=norm_cfg,
        ),
        dict(type='ProgressiveUpsample', channels=[256, 128, 96, 64], norm_cfg=norm_cfg),
    ],
    decode_head=dict(
        type='FCNHead',
        in_channels=64,
        in_index=0,
        channels=64,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=num_classes,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
tta_model = dict(type='SegTTAModel')
