"""A real data set that needs no download: scikit-learn's handwritten digits."""
import numpy as np
from mmpretrain.datasets import BaseDataset

from mmkd_atsc.errors.checks import check_choice, check_number
from mmkd_atsc.registry import DATASETS

IMAGES = 1797


@DATASETS.register_module()
class Digits(BaseDataset):
    """The 1,797 digits of scikit-learn (8x8, 17 grey levels) as 32x32 colour images, in a fixed split.

    Args:
        split: 'train' or 'test'.
        train_images: The size of the training part; all other images are the test part.

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
        # Levels 0 to 16 become bytes, and every pixel a 4x4 block of three equal channels.
        images = (digits.images * (255 / 16)).round().astype(np.uint8)
        images = images.repeat(4, axis=1).repeat(4, axis=2)[..., None].repeat(3, axis=3)
        return [dict(img=images[i], gt_label=int(digits.target[i])) for i in chosen]
