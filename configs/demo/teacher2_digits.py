# The demo's second teacher: the first one's network and schedule, another seed.
_base_ = ['./teacher_digits.py']
randomness = dict(seed=1)
