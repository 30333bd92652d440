import math
from collections.abc import Mapping
from typing import Optional

from mmengine.dist import sync_random_seed
from mmengine.logging import MessageHub
from mmpretrain.models.utils import ClsDataPreprocessor
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor

from .batch_augment import choose, crop_and_flip


@MODELS.register_module()
class BatchClsDataPreprocessor(ClsDataPreprocessor):
    """Augment and normalise the whole batches of :class:`PackedImages`.

    On the device of the model, and without an object for each image: when
    training, ``data_samples`` is a list of one ``DataSample`` whose
    ``gt_label`` are the labels ``(B, )`` of the batch, which is what
    MMPretrain's heads make of many. As metainfo it has ``sample_idx``, the
    images' places ``(B, )`` in the data set, on the CPU, and ``view``, the
    number that crops and flips were drawn with (None without them). Otherwise,
    and with batch augmentations (mixup ...), each image has its
    ``DataSample``.

    What to do with the images comes with them, from the data set. Crop and
    flip are a function of (seed, view, index of the image), where the view is
    the epoch, or in an iteration-based run (and one of a single epoch) the
    iteration: no epoch repeats another, and a resumed run goes on as if it
    had not been interrupted. An image that a sampler gives twice in an epoch
    is the same twice.

    The result is that of MMPretrain's ``ClsDataPreprocessor`` on the same
    images, to the last bit; batches of other data sets are left to it.

    Args:
        seed (int, optional): Seed of crops and flips. Defaults to None: drawn
            at the first batch, after which the run and its checkpoints keep
            it (in the message hub, as ``augmentation_seed``). What is drawn
            depends on the run's own seed.
        views (int, optional): K, the number of different views of an image:
            the epoch counts modulo K. Defaults to None: no two are alike.
        **kwargs: As of ``ClsDataPreprocessor``: ``mean``, ``std``, ``to_rgb``
            ...

    Attributes:
        epoch (int, optional): The epoch to draw by in the place of the run's,
            for use without a runner. None: the run's, or 0 if there is none.

    Raises:
        ValueError: ``views`` is no positive number.
    """

    def __init__(
        self, *args, seed: Optional[int] = None, views: Optional[int] = None, **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        if views is not None and (not isinstance(views, int) or views < 1):
            raise ValueError(
                'BatchClsDataPreprocessor: views must be a whole '
                f'number, at least 1, or None; got {views!r}'
            )
        self.seed = seed
        self.views = views
        self.epoch: Optional[int] = None
        self._non_blocking = True  # to the device only, so always safe

    @property
    def view(self) -> int:
        """The number that the next batch's crops and flips are drawn with."""
        epoch = self.epoch
        if epoch is None:
            get = MessageHub.get_current_instance().get_info
            # an iteration-based loop calls itself one epoch
            unit = 'iter' if get('max_epochs') == 1 else 'epoch'
            # a finished run that is resumed is past its last
            epoch = min(get(unit, 0), get(f'max_{unit}s', math.inf) - 1)
        return epoch if self.views is None else epoch % self.views

    def _seed_of_the_run(self) -> int:
        if self.seed is not None:
            return self.seed
        hub = MessageHub.get_current_instance()
        if hub.get_info('augmentation_seed') is None:
            hub.update_info('augmentation_seed', sync_random_seed())
        return hub.get_info('augmentation_seed')

    def forward(self, data: dict, training: bool = False) -> dict:
        """Augment as the data set says, and normalise.

        Args:
            data (dict): A batch of :class:`PackedImages`, or one that
                ``ClsDataPreprocessor`` takes.
            training (bool): Whether one ``DataSample`` for all will do, and
                batch augmentations are wanted. Defaults to False.

        Returns:
            dict: ``inputs`` and ``data_samples``, as the model takes them.
        """
        if isinstance(data.get('data_samples'), Mapping):
            return self._forward_whole(data, training)
        samples = data.get('data_samples')
        if training and samples and getattr(samples[0], 'not_augmented', None):
            raise TypeError(
                'images of PackedImages came one by one, as through a wrapper '
                '(RepeatDataset ...), and so without crop and flip; use the '
                'data set without PackedImages there'
            )
        return super().forward(data, training)

    def _forward_whole(self, data: dict, training: bool) -> dict:
        samples = data['data_samples']
        inputs, view = self.cast_data(data['inputs']), None
        if 'augment' in data:
            view = self.view
            inputs = self._augment(inputs, samples['sample_idx'], view, **data['augment'])
        split = self._split if self.to_onehot or not training else self._whole
        out = dict(inputs=inputs, data_samples=split(**samples, view=view))
        if self.to_onehot or self.pad_size_divisor > 1:
            out = super().forward(out, training)
        else:
            out['inputs'] = self._normalise(inputs)
        return out

    def _augment(
        self,
        images: Tensor,
        index: Tensor,
        view: int,
        size: Optional[tuple[int, int]],
        padding: int,
        flip_prob: float,
    ) -> Tensor:
        height, width = images.shape[2:]
        size = size or (height, width)
        places = (height + 2 * padding - size[0] + 1, width + 2 * padding - size[1] + 1)
        choices = choose(self._seed_of_the_run(), view, index.numpy(), places, flip_prob)
        return crop_and_flip(images, *choices, size, padding)

    def _normalise(self, images: Tensor) -> Tensor:
        # as the parent, but in place: a third of the memory to write
        if self.to_rgb and images.size(1) == 3:
            images = images.flip(1)
        images = images.float()
        if self._enable_normalize:
            images.sub_(self.mean).div_(self.std)
        return images

    def _whole(self, gt_label: Tensor, **meta) -> list[DataSample]:
        sample = DataSample().set_gt_label(self.cast_data(gt_label))
        for name, value in meta.items():
            sample.set_field(value, name, field_type='metainfo')
        return [sample]

    def _split(self, gt_label: Tensor, sample_idx: Tensor, **meta) -> list[DataSample]:
        samples = []
        for label, index in zip(self.cast_data(gt_label).split(1), sample_idx.tolist()):
            sample = DataSample().set_gt_label(label)
            sample.set_field(index, 'sample_idx', field_type='metainfo')
            samples.append(sample)
        return samples
