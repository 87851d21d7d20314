# The segmentor of hls-foundation-os, one frame and two classes, for its fine-tuned checkpoints.
# Batch norm and the costly neck are theirs: the checkpoints hold their parameters.
head = dict(
    type='FCNHead',
    in_channels=768,
    in_index=-1,
    channels=256,
    concat_input=False,
    dropout_ratio=0.1,
    num_classes=2,
    norm_cfg=dict(type='BN'),
    align_corners=False,
    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='HLSDataPreprocessor', normalization='v1', num_frames=1),
    backbone=dict(
        type='PrithviViT',
        arch='v1-100M',
        num_frames=1,
        img_size=224,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='hf://ibm-nasa-geospatial/Prithvi-EO-1.0-100M/'
            'Prithvi_EO_V1_100M.pt@f3a9ea7a1723621b0aeceb4de993093704d712c5',
        ),
    ),
    neck=dict(
        type='ConvTransformerTokensToEmbeddingNeck',
        embed_dim=768,
        output_embed_dim=768,
        num_frames=1,
    ),
    decode_head=dict(num_convs=1, **head),
    auxiliary_head=dict(num_convs=2, **head),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(224, 224), stride=(112, 112)),
)
tta_model = dict(type='SegTTAModel')
