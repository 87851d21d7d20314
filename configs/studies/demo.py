# The study on the embedded world, on two CPU cores in 3 hours or less: one pre-training, then
# five models x four shares of the training chips x five seeds = 100 runs. `make study` runs it.
title = 'Label efficiency on the embedded world'
iterations = 600
validations = 10
fractions = [1.0, 0.5, 0.25, 0.125]
seeds = [0, 1, 2, 3, 4]
cfg_options = {
    'train_dataloader.batch_size': 4,
    # Small chips are read as fast as they are needed; workers would only take the cores.
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'val_dataloader.num_workers': 0,
    'val_dataloader.persistent_workers': False,
    'test_dataloader.num_workers': 0,
    'test_dataloader.persistent_workers': False,
    # Drawing 4 samples at each validation would take longer than the validation.
    'default_hooks.visualization.num_samples': 0,
}
pretraining = dict(mae=dict(config='../demo/prithvi_mae.py'))
experiments = dict(
    prithvi=dict(
        label='Prithvi, pre-trained and fine-tuned',
        config='../demo/prithvi_lulc.py',
        init='mae',
        # The encoder knows something already: it learns slower, its first layers slowest.
        cfg_options={'optim_wrapper.paramwise_cfg.layer_decay_rate': 0.75},
    ),
    prithvi_frozen=dict(
        label='Prithvi, pre-trained and frozen',
        config='../demo/prithvi_frozen_lulc.py',
        init='mae',
    ),
    prithvi_scratch=dict(label='Prithvi, from scratch', config='../demo/prithvi_scratch_lulc.py'),
    # There are no natural-image weights offline.
    vit=dict(label='ViT (random weights)', config='../demo/vit_lulc.py'),
    unet=dict(label='U-Net', config='../demo/unet_lulc.py'),
)
baseline = 'prithvi'
work_dir = 'work_dirs/study'
