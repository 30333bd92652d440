"""The logit store that the runs of a comparison or a search fill together."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ..teachers.fill_store import begin_store
from ..teachers.logit_store import StoreMismatch
from .job import Job, set_aside


def begin_shared_store(jobs: Sequence[Job], console: Console) -> None:
    """Begin or check the store of the jobs with ``--store-views`` that are not finished.

    Its teacher must be trained. The folder is renamed if it holds the logits of
    another teacher or other images, such as those of an earlier experiment.

    Args:
        jobs: Runs on the same images with the same teacher.
        console: Where to report a folder that is renamed.

    Raises:
        ValueError: If the student's preprocessor mixes images.
        FileNotFoundError: If the teacher's checkpoint is missing.
        OSError: If there is not enough space.
    """
    filling = [job for job in jobs if job.args.store_views and 'finished' not in job.notes()]
    if not filling:
        return
    cfg = filling[0].cfg
    views, folder = cfg.model.teacher_logits['views'], Path(cfg.model.teacher_logits['folder'])
    try:
        begin_store(cfg, folder, views)
    except StoreMismatch as error:
        console.print(f'{error}\nThese logits are kept as {set_aside(folder)}', highlight=False)
        begin_store(cfg, folder, views)
