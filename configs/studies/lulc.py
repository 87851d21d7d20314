# The label-efficiency study at full size: four models x four shares of the training chips x five
# seeds = 80 runs, for a GPU server or a cluster.
#   tools/label_efficiency.py run configs/studies/lulc.py --jobs 8
#   tools/label_efficiency.py run configs/studies/lulc.py --launcher slurm \
#       --slurm slurm_partition=gpu gpus_per_node=1 cpus_per_task=8 timeout_min=720
# Put other data with cfg_options={'train_dataloader.dataset.data_root': ..., and val_, test_}.
title = 'Label efficiency for land-cover mapping'
iterations = 5000
validations = 10
fractions = [1.0, 0.5, 0.25, 0.125]
seeds = [0, 1, 2, 3, 4]
experiments = dict(
    prithvi=dict(label='Prithvi, fine-tuned', config='../prithvi_lulc.py'),
    prithvi_frozen=dict(label='Prithvi, frozen encoder', config='../prithvi_lulc_frozen.py'),
    vit=dict(label='ViT (ImageNet weights)', config='../vit_lulc.py'),
    unet=dict(label='U-Net', config='../unet_lulc.py'),
)
baseline = 'prithvi'
work_dir = 'work_dirs/study_lulc'
