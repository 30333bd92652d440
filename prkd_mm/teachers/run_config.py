"""Config of a run that fills a logit store."""

from typing import Optional

from mmengine.config import Config

from ..config import is_type
from .fill_store import check_config, default_folder
from .filling_teacher import fills_a_store


def prepare_store(cfg: Config, views: Optional[int] = None) -> None:
    """Let a run fill a logit store, if its config or ``views`` says so.

    Adds the :class:`~prkd_mm.hooks.FillStoreHook`. A student without a teacher
    is left as it is.

    Args:
        cfg: The config, which is changed.
        views: Number of views K; None leaves ``model.teacher_logits``.

    Raises:
        ValueError: If there is no frozen teacher, the logits are stored
            already, or the images cannot be drawn again.
    """
    if is_type(cfg.model, 'StudentAlone'):
        return
    if views is not None:
        check_config(cfg)
        if stored := cfg.model.get('teacher_logits'):
            raise ValueError(
                f'--store-views fills a store, and the config has model.teacher_logits={stored!r} '
                'already; use one of them'
            )
        cfg.model.teacher_logits = dict(views=views, folder=str(default_folder(cfg, views)))
    hooks = cfg.get('custom_hooks') or []
    added = any(is_type(hook, 'FillStoreHook') for hook in hooks)
    if fills_a_store(cfg.model.get('teacher_logits')) and not added:
        cfg.custom_hooks = [*hooks, dict(type='mmengine.FillStoreHook')]
