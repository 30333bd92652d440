import math
from collections.abc import Mapping
from typing import Optional

from mmengine.dist import sync_random_seed
from mmengine.logging import MessageHub
from mmpretrain.models.utils import ClsDataPreprocessor
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.utils.data import Dataset

from ...checks.number_checks import check_whole_number
from ..image_views import ImageViews
from .batch_augment import choose, crop_and_flip


@MODELS.register_module()
class BatchClsDataPreprocessor(ClsDataPreprocessor):
    """Augment and normalize whole batches on the device of the model.

    For each batch of :class:`PackedImages` (:class:`ImageViews` has already done steps 2 to 4 in
    its workers):

    1. copy the ``uint8`` images ``(B, C, H, W)`` to the device;
    2. draw each image's crop and flip from (seed, view, index of the image);
    3. pad with zeros and crop;
    4. flip;
    5. swap BGR to RGB, convert to float, subtract the mean, divide by the standard deviation, as
       ``ClsDataPreprocessor`` does, bit for bit.

    The view is the epoch, modulo ``views``; in an iteration-based run, and in one of a single
    epoch, it is the iteration. Therefore no two epochs are alike, and a resumed run draws the same
    crops and flips as an uninterrupted one.

    In training, ``data_samples`` is a list of one ``DataSample`` that holds the labels ``(B, )`` of
    the batch. Its metainfo contains ``sample_idx`` (the indices ``(B, )`` of the images in the data
    set, on the CPU), ``source`` of the data set, and ``view``. In
    evaluation, and with batch augmentations (mixup, ...), each image has its own ``DataSample``.
    Batches of other data sets are passed to ``ClsDataPreprocessor``.

    Args:
        seed (int, optional): Seed of crops and flips. Defaults to None: drawn at the first batch
            and kept in the message hub, as ``augmentation_seed``, and in checkpoints.
        views (int, optional): Number K of different views of an image. Defaults to None: every
            epoch has a view of its own.
        **kwargs: Arguments of ``ClsDataPreprocessor``: ``mean``, ``std``, ``to_rgb``, ...

    Attributes:
        epoch (int, optional): Epoch to use instead of that of the run, for use without a runner.
            None means the epoch of the run, or 0 without a run.

    Raises:
        ValueError: If ``views`` is not a positive integer.
    """

    def __init__(
        self, *args, seed: Optional[int] = None, views: Optional[int] = None, **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        check_whole_number('BatchClsDataPreprocessor: views', views, optional=True)
        self.seed = seed
        self.views = views
        self.epoch: Optional[int] = None
        self._non_blocking = True  # safe, since copies go to the device only

    @property
    def view(self) -> int:
        """Number of the view that the next batch uses."""
        epoch = self.epoch
        if epoch is None:
            get = MessageHub.get_current_instance().get_info
            # an iteration-based loop counts as a single epoch
            unit = 'iter' if get('max_epochs') == 1 else 'epoch'
            # a finished run that is resumed is past its last epoch
            epoch = min(get(unit, 0), get(f'max_{unit}s', math.inf) - 1)
        return epoch if self.views is None else epoch % self.views

    @property
    def view_seed(self) -> int:
        """Seed of the views."""
        if self.seed is not None:
            return self.seed
        hub = MessageHub.get_current_instance()
        if hub.get_info('augmentation_seed') is None:
            hub.update_info('augmentation_seed', sync_random_seed())
        return hub.get_info('augmentation_seed')

    def choose_view(self, dataset: Dataset) -> None:
        """Set the next view of an :class:`ImageViews`; other data sets are not changed."""
        if isinstance(dataset, ImageViews):
            dataset.choose(self.view_seed, self.view)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Augment as the data set requires, and normalize.

        In training, batches of :class:`PackedImages` and :class:`ImageViews` get one ``DataSample``
        for the whole batch, and batch augmentations are applied.

        Returns:
            dict: ``inputs`` and ``data_samples`` for the model.
        """
        if isinstance(data.get('data_samples'), Mapping):
            return self._forward_whole(data, training)
        samples = data.get('data_samples')
        if training and samples and getattr(samples[0], 'not_augmented', None):
            raise TypeError(
                'images of PackedImages arrived one by one, probably from a wrapper '
                '(RepeatDataset, ...), and therefore without crop and flip; use the '
                'data set without PackedImages there'
            )
        return super().forward(data, training)

    def _forward_whole(self, data: dict, training: bool) -> dict:
        samples = dict(data['data_samples'])
        inputs = self.cast_data(data['inputs'])
        view = samples.pop('view', self.view)
        if 'seed' in samples:
            self._check_view(samples.pop('seed'), view, training)
        if 'augment' in data:
            inputs = self._augment(inputs, samples['sample_idx'], view, **data['augment'])
        split = self._split if self.to_onehot or not training else self._whole
        out = dict(inputs=inputs, data_samples=split(**samples, view=view))
        if self.to_onehot or self.pad_size_divisor > 1:
            out = super().forward(out, training)
        else:
            out['inputs'] = self._normalize(inputs)
        return out

    def _check_view(self, seed: int, view: int, training: bool) -> None:
        epochs = MessageHub.get_current_instance().get_info('max_epochs', 0)
        if training and epochs > 1 and (seed, view) != (self.view_seed, self.view):
            raise RuntimeError(
                f'the images were drawn for view {view} with seed {seed}, but the run is at '
                f'view {self.view} with seed {self.view_seed}; ImageViews needs '
                "default_hooks=dict(epoch_seed=dict(type='EpochSeedHook'))"
            )

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
        positions = (height + 2 * padding - size[0] + 1, width + 2 * padding - size[1] + 1)
        choices = choose(self.view_seed, view, index.numpy(), positions, flip_prob)
        return crop_and_flip(images, *choices, size, padding)

    def _normalize(self, images: Tensor) -> Tensor:
        # as in the parent class, but in place, which writes a third of the memory
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
