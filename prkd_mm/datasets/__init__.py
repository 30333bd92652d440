from .caltech256 import Caltech256
from .dataset_hash import hash_of_dataset
from .digits import Digits
from .held_out_split import held_out_split
from .image_views import ImageViews
from .packed.batch_preprocessor import BatchClsDataPreprocessor
from .packed.packed_images import PackedImages
from .tinyimagenet import TinyImageNet

__all__ = [
    'BatchClsDataPreprocessor',
    'Caltech256',
    'Digits',
    'ImageViews',
    'PackedImages',
    'TinyImageNet',
    'hash_of_dataset',
    'held_out_split',
]
