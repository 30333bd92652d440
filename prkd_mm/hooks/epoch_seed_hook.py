from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner, set_random_seed

from ..datasets import BatchClsDataPreprocessor, ImageViews
from ..evaluation import unwrap
from .progress import is_iter_based


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Make an epoch's randomness a function of (seed, epoch, rank).

    With this hook, and :func:`seed_worker_by_epoch` if workers load the data, a resumed run gets
    the same augmentations and dropout masks as one that was never interrupted, bit for bit. It is
    effective in epoch-based loops only.

    Raises:
        ValueError: Before the training, if ``randomness.diff_rank_seed`` is True.

    Examples:
        >>> default_hooks = dict(epoch_seed=dict(type='EpochSeedHook'))
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        if (runner.cfg.get('randomness') or {}).get('diff_rank_seed'):
            raise ValueError(
                'EpochSeedHook: randomness.diff_rank_seed must be False, so that crops and flips '
                'do not depend on the process; the other random numbers do in any case'
            )
        # BatchClsDataPreprocessor and ImageViews draw from this seed
        runner.message_hub.update_info('augmentation_seed', runner.seed)

    def before_train_epoch(self, runner: Runner) -> None:
        # a stride that keeps (seed, epoch) and (seed + 1, epoch') apart
        seed = (runner.seed + 1_000_003 * (runner.epoch + 1)) % 2**31
        set_random_seed(seed, diff_rank_seed=True)
        preprocessor = unwrap(runner.model).data_preprocessor
        if isinstance(preprocessor, BatchClsDataPreprocessor):
            dataset = runner.train_dataloader.dataset
            if isinstance(dataset, ImageViews) and is_iter_based(runner):
                raise ValueError('ImageViews needs an epoch-based loop (train_cfg.by_epoch=True)')
            preprocessor.choose_view(dataset)
