"""Config of a run that fills a logit store."""

from typing import Optional

from mmengine.config import Config

from ..overrides import is_type
from .fill_store import check_config, default_folder
from .filling_teacher import fills_a_store


def prepare_store(cfg: Config, views: Optional[int] = None) -> None:
    """Make a run fill a logit store of ``views`` views, or as its config requests.

    Adds the :class:`~prkd_mm.hooks.FillStoreHook` to the config. The config of a student without a
    teacher is not changed.

    Raises:
        ValueError: If ``views`` is given and there is no frozen teacher, the logits are stored
            already, or the views of the images cannot be reproduced.
    """
    if is_type(cfg.model, 'StudentAlone'):
        if views is not None:
            raise ValueError('--store-views needs a teacher, but the student is trained alone')
        return
    if views is not None:
        check_config(cfg)
        if stored := cfg.model.get('teacher_logits'):
            raise ValueError(
                '--store-views fills a store, but the config already has '
                f'model.teacher_logits={stored!r}; use only one of them'
            )
        folder = default_folder(cfg.model.get('teacher_config'), views)
        cfg.model.teacher_logits = dict(views=views, folder=str(folder))
    hooks = cfg.get('custom_hooks') or []
    added = any(is_type(hook, 'FillStoreHook') for hook in hooks)
    if fills_a_store(cfg.model.get('teacher_logits')) and not added:
        cfg.custom_hooks = [*hooks, dict(type='mmengine.FillStoreHook')]
