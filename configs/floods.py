# Floods (Sen1Floods11: no water, water), one date: the published fine-tuned model. To use it:
#   tools/model_converters/hls_foundation.py configs/floods.py \
#     hf://ibm-nasa-geospatial/Prithvi-EO-1.0-100M-sen1floods11/sen1floods11_Prithvi_100M.pth X.pth
_base_ = [
    './_base_/models/hls_foundation.py',
    './_base_/datasets/hls_one_date.py',
    './_base_/schedules/schedule_5k.py',
    './_base_/default_runtime.py',
]
data_root = 'data/floods/chips'
class_weight = [0.3, 0.7]
model = dict(
    # Source: its config, there for reflectance from 0 to 1, here for int16 x 10000.
    data_preprocessor=dict(
        normalization=dict(
            _delete_=True,
            mean=[1424.5495, 1392.1481, 1243.4631, 3142.0089, 2074.3526, 1204.6503],
            std=[403.6231, 418.6983, 526.7646, 822.2210, 683.4774, 529.4205],
        )
    ),
    decode_head=dict(loss_decode=dict(class_weight=class_weight)),
    auxiliary_head=dict(loss_decode=dict(class_weight=class_weight)),
)
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
