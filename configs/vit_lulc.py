# Baseline: a ViT of natural images (ImageNet-21k, then 1k) of Prithvi's size, on the data, neck,
# head and schedule of prithvi_lulc.py. TimmViT says how three colours become 18 channels.
_base_ = ['./prithvi_lulc.py']
model = dict(
    backbone=dict(
        _delete_=True,
        type='TimmViT',
        num_frames=3,
        img_size=224,
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='hf://timm/vit_base_patch16_224.augreg2_in21k_ft_in1k/'
            'model.safetensors@063c6c38a5d8510b2e57df480445e94b231dad2c',
        ),
    ),
    neck=[
        dict(type='TemporalFuse', in_channels=[768], out_channels=256),
        dict(type='ProgressiveUpsample', in_channels=256, channels=[128, 96, 64]),
    ],
)
