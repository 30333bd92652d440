"""The nets of a pair in each of the compared algorithms."""

import copy
from pathlib import Path
from typing import Any, Optional

import torch
from mmengine.config import Config
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmrazor.registry import MODELS

from prkd_mm.batch_norm import recalibrate_bn
from prkd_mm.config import load_config
from prkd_mm.datasets import PackedImages
from prkd_mm.teachers import Teacher
from prkd_mm.teachers.fill_store import create_store, fill

from .images import ROOT, in_memory, our_preprocessor, stock_preprocessor
from .timing import Clock

PAIRS = (
    'resnet34_resnet18_tinyimagenet',
    'resnet32x4_resnet8x4_cifar100',
    'wrn_40_2_wrn_16_2_cifar100',
)


def load_pair(name: str, method: str) -> Config:
    """Load ``configs/prkd/<name>.py``, or ``configs/<name>.py`` if the name contains a slash."""
    init_default_scope('mmpretrain')
    folder = ROOT / 'configs' / ('' if '/' in name else 'prkd')
    return load_config(str(folder / f'{name}.py'), method)


class Pair:
    """A teacher and a student of ``configs/prkd``, and a batch of images for them.

    The weights are random, since the cost does not depend on them. The teacher's batch-norm
    statistics are estimated from the images, so that its logits have a realistic magnitude.
    """

    def __init__(self, name: str, device: torch.device, batch: int = 64, size: int = 32) -> None:
        self.name, self.device = name, device
        self.batch, self.size = batch, size
        self.cfg, self.kd = load_pair(name, 'prkd'), load_pair(name, 'kd')
        torch.manual_seed(0)
        self.student = build(self.cfg.model.architecture)
        self.teacher = build(self.cfg.model.teacher)
        pipeline = [
            # these transforms change nothing, but take the usual time
            dict(type='RandomCrop', crop_size=size),
            dict(type='RandomFlip', prob=0.0, direction='horizontal'),
            dict(type='PackInputs'),
        ]
        self.images = in_memory(batch, size, self.student.head.num_classes)(pipeline)
        self.packed = PackedImages(self.images)
        preprocess = self.alone().data_preprocessor
        recalibrate_bn(self.teacher, [preprocess(self._whole_batch(), True)['inputs'].cpu()])
        self.teacher.to(device)

    def _whole_batch(self) -> dict:
        return self.packed.__getitems__(list(range(self.batch)))

    def stock(self, channels_last: bool = False) -> BaseModel:
        """Build MMRazor's ``SingleTeacherDistill`` with its ``KLDivergence``."""
        model = self._build('SingleTeacherDistill', self.kd, teacher=copy.deepcopy(self.teacher))
        return model.to(memory_format=torch.channels_last) if channels_last else model

    def ours(self, **options: Any) -> BaseModel:
        """Build ``FrozenTeacherDistill`` with ``PRKDLoss`` and further options."""
        options = dict(dict(teacher=copy.deepcopy(self.teacher)), **options)
        return self._build('FrozenTeacherDistill', self.cfg, **options)

    def stored(self, folder: Path) -> BaseModel:
        """Build ``FrozenTeacherDistill`` with logits that are stored in a new folder."""
        live = self.ours()
        images = live.data_preprocessor, self.packed
        store = create_store(folder, live.teacher, *images, views=1, topk=0)
        fill(store, store.missing(), live.teacher, *images, batch_size=self.batch)
        return self.ours(teacher=None, teacher_logits=str(folder))

    def alone(self) -> BaseModel:
        """Build ``StudentAlone``, with the same batches as ours."""
        return self._build('StudentAlone')

    def _build(self, kind: str, cfg: Optional[Config] = None, **options: Any) -> BaseModel:
        """Build an algorithm with this student, in training mode, and ours in channels_last."""
        ours, preprocessor = kind != 'SingleTeacherDistill', stock_preprocessor(self.cfg)
        if cfg is not None:
            options['distiller'] = cfg.model.distiller.to_dict()
        model = MODELS.build(
            dict(
                options,
                _scope_='mmrazor',
                type=kind,
                architecture=copy.deepcopy(self.student),
                data_preprocessor=our_preprocessor(preprocessor) if ours else preprocessor,
            )
        ).to(self.device)
        if ours:
            model.to(memory_format=torch.channels_last)
            model.data_preprocessor.epoch = 0  # there is no runner to read it from
        model.train()
        return model

    def batches(self) -> dict[str, Any]:
        """Return the same images as a list, stacked, and as a whole batch."""
        samples = [self.images[i] for i in range(self.batch)]
        return dict(
            list=pseudo_collate(samples),
            stacked=default_collate(samples),
            whole=self._whole_batch(),
        )

    def step(self, model: BaseModel, batch: Any, amp: bool = False) -> 'Step':
        """Build a training step of a model on a batch, with the pair's optimizer."""
        cfg = self.cfg.optim_wrapper.to_dict()
        cfg['type'] = 'AmpOptimWrapper' if amp else 'OptimWrapper'
        return Step(model, build_optim_wrapper(model, cfg), batch, Clock(self.device))


def build(cfg: dict) -> BaseModel:
    """Build a net with random weights."""
    net = MODELS.build(cfg)
    net.init_weights()
    return net


class Step:
    """``train_step`` of a model on one batch, with the time of its sections."""

    def __init__(
        self, model: BaseModel, optim_wrapper: OptimWrapper, batch: Any, clock: Clock
    ) -> None:
        self.model, self.optim_wrapper, self.batch, self.clock = model, optim_wrapper, batch, clock
        self._marks: list[tuple] = []
        self._watch(model.data_preprocessor, 'forward', 'prepare')
        if hasattr(model, 'teacher'):
            ours = isinstance(model.teacher, Teacher)  # MMRazor calls the net itself
            self._watch(model.teacher, 'logits' if ours else 'forward', 'teacher')
            self._watch(model.distiller, 'compute_distill_losses', 'distill')
        self._watch(model.architecture, 'forward', 'student')
        self._watch(optim_wrapper, 'backward', 'backward')
        self._watch(optim_wrapper, 'step', 'update')

    def _watch(self, owner: Any, method: str, name: str) -> None:
        function = getattr(owner, method)

        def watched(*args, **kwargs):
            start = self.clock.mark()
            out = function(*args, **kwargs)
            self._marks.append((name, start, self.clock.mark()))
            return out

        setattr(owner, method, watched)

    def __call__(self) -> dict[str, torch.Tensor]:
        """Run one step and return its log values."""
        start = self.clock.mark()
        out = self.model.train_step(self.batch, self.optim_wrapper)
        self._marks.append(('all', start, self.clock.mark()))
        return out

    def reset(self) -> None:
        """Discard the section times measured so far."""
        self._marks.clear()

    def sections(self) -> dict[str, float]:
        """Compute the mean seconds of each section per step since the last reset."""
        self.clock.wait()
        total: dict[str, float] = {}
        for name, start, end in self._marks:
            total[name] = total.get(name, 0.0) + self.clock.between(start, end)
        steps = sum(name == 'all' for name, *_ in self._marks)
        whole = total.pop('all')
        total['rest'] = whole - sum(total.values())
        return {name: seconds / steps for name, seconds in total.items()}
