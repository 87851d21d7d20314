# "Prithvi pre-trained" of the study: the encoder stays as published, neck and head are trained.
_base_ = ['./prithvi_lulc.py']
model = dict(backbone=dict(frozen_stages=12))
