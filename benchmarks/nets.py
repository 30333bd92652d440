"""The nets of a pair in each of the compared algorithms."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmrazor.registry import MODELS
from torch import nn

from prkd_mm.batch_norm import recalibrate_bn
from prkd_mm.config import load_config
from prkd_mm.datasets import PackedImages
from prkd_mm.teachers import Teacher
from prkd_mm.teachers.logit_store import TeacherLogits
from prkd_mm.teachers.normalization import Normalization

from .images import CONFIGS, in_memory, our_preprocessor, stock_preprocessor
from .timing import Clock

PAIRS = (
    'resnet34_resnet18_tinyimagenet',
    'resnet32x4_resnet8x4_cifar100',
    'wrn_40_2_wrn_16_2_cifar100',
)


class Pair:
    """A teacher and a student of ``configs/prkd``, and images for them.

    The weights are random, since the cost does not depend on them. The teacher's
    batch-norm statistics are estimated from the images, so that its logits
    have a realistic magnitude.

    Args:
        name: Name of the config.
        device: Device of the nets.
        batch: Images per batch.
        size: Height and width of the images.

    Raises:
        FileNotFoundError: If there is no such config.
    """

    def __init__(self, name: str, device: torch.device, batch: int = 64, size: int = 32) -> None:
        path = str(CONFIGS / f'prkd/{name}.py')
        self.name, self.device = name, device
        self.batch, self.size = batch, size
        self.cfg = load_config(path, method='prkd')
        self.kd = load_config(path, method='kd')
        init_default_scope('mmpretrain')
        torch.manual_seed(0)
        self.student = self._build(self.cfg.model.architecture)
        self.teacher = self._build(self.cfg.model.teacher)
        pipeline = [
            # has no effect, but takes the usual time
            dict(type='RandomCrop', crop_size=size),
            dict(type='RandomFlip', prob=0.0, direction='horizontal'),
            dict(type='PackInputs'),
        ]
        self.images = in_memory(batch, size, self._classes)(pipeline)
        self.packed = PackedImages(self.images)
        inputs = self._preprocess()(self._whole_batch(), True)['inputs']
        recalibrate_bn(self.teacher, [inputs])
        self.teacher.to(device)

    @property
    def _classes(self) -> int:
        return self.cfg.model.architecture.head.num_classes

    @staticmethod
    def _build(cfg: dict) -> BaseModel:
        net = MODELS.build(cfg)
        net.init_weights()
        return net

    def _preprocessor(self, packed: bool) -> dict:
        stock = stock_preprocessor(self.cfg)
        return our_preprocessor(stock) if packed else stock

    def _preprocess(self) -> nn.Module:
        preprocess = MODELS.build(self._preprocessor(packed=True))
        preprocess.epoch = 0
        return preprocess

    def _whole_batch(self) -> dict:
        return self.packed.__getitems__(list(range(self.batch)))

    def stock(self, channels_last: bool = False) -> BaseModel:
        """Build MMRazor's ``SingleTeacherDistill`` with its ``KLDivergence``."""
        model = self._distiller('SingleTeacherDistill', self.kd, False)
        return self._ready(model, channels_last)

    def ours(self, **options: Any) -> BaseModel:
        """Build ``FrozenTeacherDistill`` with ``PRKDLoss`` and further options."""
        model = self._distiller('FrozenTeacherDistill', self.cfg, True, **options)
        return self._ready(model, True)

    def _distiller(self, kind: str, cfg: Config, packed: bool, **options: Any) -> BaseModel:
        return MODELS.build(
            dict(
                options,
                _scope_='mmrazor',
                type=kind,
                architecture=copy.deepcopy(self.student),
                teacher=copy.deepcopy(self.teacher),
                distiller=cfg.model.distiller.to_dict(),
                data_preprocessor=self._preprocessor(packed),
            )
        )

    def stored(self, folder: Path) -> BaseModel:
        """Build ``FrozenTeacherDistill`` with stored logits.

        Args:
            folder: Folder of the store, which is created.
        """
        preprocess = self._preprocess()
        store = TeacherLogits.create(
            folder,
            1,
            self.batch,
            self._classes,
            teacher='benchmark',
            source=self.packed.source,
            seed=0,
            normalization=Normalization.of(preprocess).describe(),
        )
        data = preprocess(self._whole_batch(), True)
        with torch.inference_mode():
            logits = self.teacher.eval()(data['inputs'].to(self.device))
        for chunk in store.missing():
            store.put(chunk, logits[chunk[1] : chunk[2]])
        model = MODELS.build(
            dict(
                _scope_='mmrazor',
                type='FrozenTeacherDistill',
                architecture=copy.deepcopy(self.student),
                teacher=None,
                teacher_logits=str(folder),
                distiller=self.cfg.model.distiller.to_dict(),
                data_preprocessor=self._preprocessor(True),
            )
        )
        return self._ready(model, True)

    def alone(self) -> BaseModel:
        """Build ``StudentAlone``, with the same batches as ours."""
        return self._ready(
            MODELS.build(
                dict(
                    _scope_='mmrazor',
                    type='StudentAlone',
                    architecture=copy.deepcopy(self.student),
                    data_preprocessor=self._preprocessor(True),
                )
            ),
            True,
        )

    def _ready(self, model: BaseModel, channels_last: bool) -> BaseModel:
        model.to(self.device)
        if channels_last:
            model.to(memory_format=torch.channels_last)
        if hasattr(model.data_preprocessor, 'epoch'):
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


@dataclass
class Step:
    """``train_step`` of a model on one batch, with the time of its sections.

    Args:
        model: Algorithm, in training mode.
        optim_wrapper: Optimizer of the model.
        batch: A batch of a data loader.
        clock: Clock that marks the start and end of each section.
    """

    model: BaseModel
    optim_wrapper: OptimWrapper
    batch: Any
    clock: Clock

    def __post_init__(self) -> None:
        self._marks: list[tuple] = []
        model = self.model
        self._watch(model.data_preprocessor, 'forward', 'prepare')
        if hasattr(model, 'teacher'):
            ours = isinstance(model.teacher, Teacher)  # MMRazor calls the net itself
            self._watch(model.teacher, 'logits' if ours else 'forward', 'teacher')
            self._watch(model.distiller, 'compute_distill_losses', 'distill')
        self._watch(model.architecture, 'forward', 'student')
        self._watch(self.optim_wrapper, 'backward', 'backward')
        self._watch(self.optim_wrapper, 'step', 'update')

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
