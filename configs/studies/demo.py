# The study on the embedded world, on two CPU cores in 3 hours or less: one pre-training, then
# five models x four shares of the training chips x five seeds = 100 runs. `make study` runs it.
title = 'Label efficiency on the embedded world'
iterations = 1000
validations = 10
fractions = [1.0, 0.5, 0.25, 0.125]
seeds = [0, 1, 2, 3, 4]
cfg_options = {
    'train_dataloader.batch_size': 2,
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
# Chosen on validation, for all models alike: more updates of few chips are worth more than fewer of
# many, and high rates more than low ones, for transformers with a layer decay, trained before or
# not.
_rate = {'optim_wrapper.optimizer.lr': 3e-3}
_transformer = {**_rate, 'optim_wrapper.paramwise_cfg.layer_decay_rate': 0.75}
pretraining = dict(mae=dict(config='../demo/prithvi_mae.py'))
experiments = dict(
    prithvi=dict(
        label='Prithvi, pre-trained and fine-tuned',
        config='../demo/prithvi_lulc.py',
        init='mae',
        cfg_options=_transformer,
    ),
    prithvi_frozen=dict(
        label='Prithvi, pre-trained and frozen',
        config='../demo/prithvi_frozen_lulc.py',
        init='mae',
        cfg_options=_transformer,
    ),
    prithvi_scratch=dict(
        label='Prithvi, from scratch',
        config='../demo/prithvi_scratch_lulc.py',
        cfg_options=_transformer,
    ),
    vit=dict(
        # There are no natural-image weights offline.
        label='ViT (random weights)',
        config='../demo/vit_lulc.py',
        cfg_options=_transformer,
    ),
    unet=dict(label='U-Net', config='../demo/unet_lulc.py', cfg_options=_rate),
)
baseline = 'prithvi'
work_dir = 'work_dirs/study'
