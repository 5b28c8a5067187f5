# ATSC with several teachers on CIFAR-100 is written as with one.
_base_ = ['./atsc_cifar100.py']
