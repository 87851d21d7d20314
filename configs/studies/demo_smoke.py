# A corner of demo.py that shows whether the whole road works, not what the models are worth.
_base_ = ['./demo.py']
title = 'Smoke test of the study on the embedded world'
iterations = 10
validations = 2
fractions = [1.0, 0.25]
seeds = [0, 1]
_data = 'data/demo_smoke/chips'
cfg_options = {f'{phase}_dataloader.dataset.data_root': _data for phase in ('train', 'val', 'test')}
pretraining = dict(
    mae=dict(
        cfg_options={
            'train_dataloader.dataset.data_root': _data,
            'val_dataloader.dataset.data_root': _data,
            'train_dataloader.batch_size': 16,
            'train_cfg.max_iters': 20,
            'train_cfg.val_interval': 20,
        }
    )
)
experiments = dict(
    _delete_=True,
    prithvi=dict(
        label='Prithvi, pre-trained and fine-tuned',
        config='../demo/prithvi_lulc.py',
        init='mae',
    ),
    unet=dict(label='U-Net', config='../demo/unet_lulc.py'),
)
work_dir = 'work_dirs/study_smoke'
