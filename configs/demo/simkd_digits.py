# The demo's student taught by SimKD: ATSC with a teacher that does not move.
_base_ = './atsc_digits.py'
model = dict(adaptive=False)
custom_hooks = []
val_cfg = dict(teachers=False)
