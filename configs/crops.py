# Crop types of the US (13 classes), three dates: the published fine-tuned model. To use it:
#   tools/model_converters/hls_foundation.py configs/crops.py hf://ibm-nasa-geospatial/\
#     Prithvi-EO-1.0-100M-multi-temporal-crop-classification/\
#     multi_temporal_crop_classification_Prithvi_100M.pth OUT.pth   (URL without the breaks)
_base_ = [
    './_base_/models/hls_foundation.py',
    './_base_/datasets/hls_lulc.py',
    './_base_/schedules/schedule_5k.py',
    './_base_/default_runtime.py',
]
data_root = 'data/crops/chips'
head = dict(
    in_channels=2304,
    num_classes=13,
    loss_decode=dict(
        # Source: its config. Natural vegetation, forest, corn, soybeans, wetlands, developed or
        # barren, open water, winter wheat, alfalfa, fallow, cotton, sorghum, other.
        class_weight=[
            *(0.386375, 0.661126, 0.548184, 0.640482, 0.876862, 0.925186, 3.249462),
            *(1.542289, 2.175141, 2.272419, 3.062762, 3.626097, 1.198702),
        ],
    ),
)
model = dict(
    data_preprocessor=dict(
        num_frames=3,
        normalization=dict(
            _delete_=True,
            mean=[494.905781, 815.239594, 924.335066, 2968.881459, 2634.621962, 1739.579917],
            std=[284.925432, 357.84876, 575.566823, 896.601013, 951.900334, 921.407808],
        ),
    ),
    backbone=dict(
        # It was fine-tuned with half of the blocks, in 8 heads, and with frames and bands mixed
        # up; pre-trained weights of 12 blocks and 12 heads do not fit, so there are none.
        arch=dict(_delete_=True, embed_dims=768, depth=6, num_heads=8),
        num_frames=3,
        legacy_layout=True,
        init_cfg=None,
    ),
    neck=dict(embed_dim=2304, output_embed_dim=2304, num_frames=3),
    decode_head=head,
    auxiliary_head=head,
)
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
