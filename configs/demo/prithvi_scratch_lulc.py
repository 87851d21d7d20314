# From random weights on the embedded world: here the same as prithvi_lulc.py.
_base_ = ['./prithvi_lulc.py']
