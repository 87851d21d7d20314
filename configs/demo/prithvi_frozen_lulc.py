# The frozen encoder on the embedded world; its features are random, as the weights are.
_base_ = ['./prithvi_lulc.py']
model = dict(backbone=dict(frozen_stages=4))
