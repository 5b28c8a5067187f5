"""A real data set that needs no download: scikit-learn's handwritten digits."""

import numpy as np
from mmpretrain.datasets import BaseDataset

from mmkd_atsc.errors.checks import check_choice, check_number
from mmkd_atsc.registry import DATASETS

IMAGES, SIDE = 1797, 32


@DATASETS.register_module()
class Digits(BaseDataset):
    """The 1,797 digits of scikit-learn (8x8, 17 grey levels) as 32x32 colour images, in a fixed split.

    Args:
        split: 'train' or 'test'. Which image is in which does not depend on any seed.
        train_images: How many of the images train; all others test.

    >>> len(Digits(split='train', pipeline=[])), len(Digits(split='test', pipeline=[]))
    (400, 1397)
    """

    METAINFO = {'classes': tuple('0123456789')}

    def __init__(self, split: str = 'train', train_images: int = 400, **kwargs) -> None:
        self.split = check_choice('split', split, ('train', 'test'))
        self.train_images = check_number('train_images', train_images, 10, IMAGES - 10, integer=True)
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> list[dict]:
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise ImportError('the digits come with scikit-learn: pip install "mmkd_atsc[demo]"') from None
        digits = load_digits()
        order = np.random.RandomState(0).permutation(IMAGES)
        chosen = order[:self.train_images] if self.split == 'train' else order[self.train_images:]
        return [dict(img=self._as_image(digits.images[i]), gt_label=int(digits.target[i])) for i in chosen]

    @staticmethod
    def _as_image(digit: np.ndarray) -> np.ndarray:
        """(8, 8) levels 0 to 16 as (32, 32, 3) bytes; every pixel becomes a 4x4 block."""
        grey = np.kron(digit * (255 / 16), np.ones((SIDE // 8, SIDE // 8))).round().astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
