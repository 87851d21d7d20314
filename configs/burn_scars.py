# Burn scars (unburnt land, burn scar), one date: the published fine-tuned model. To use it:
#   tools/model_converters/hls_foundation.py configs/burn_scars.py \
#     hf://ibm-nasa-geospatial/Prithvi-EO-1.0-100M-burn-scar/burn_scars_Prithvi_100M.pth OUT.pth
_base_ = [
    './_base_/models/hls_foundation.py',
    './_base_/datasets/hls_one_date.py',
    './_base_/schedules/schedule_5k.py',
    './_base_/default_runtime.py',
]
data_root = 'data/burn_scars/chips'
dice = dict(type='DiceLoss', use_sigmoid=False, loss_weight=1.0)
model = dict(
    # Source: its config, there for reflectance from 0 to 1, here for int16 x 10000.
    data_preprocessor=dict(
        normalization=dict(
            _delete_=True,
            mean=[333.49707, 570.11855, 588.97481, 2323.24511, 1972.85485, 1194.49142],
            std=[226.91356, 268.07560, 400.41098, 779.17332, 870.87388, 724.19795],
        )
    ),
    decode_head=dict(loss_decode=dict(_delete_=True, **dice)),
    auxiliary_head=dict(loss_decode=dict(_delete_=True, **dice)),
)
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
