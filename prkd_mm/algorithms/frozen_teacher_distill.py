from contextlib import suppress
from typing import Callable, Optional, Union

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmrazor.models.algorithms import SingleTeacherDistill
from mmrazor.models.utils import add_prefix
from mmrazor.registry import MODELS
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from ..checkpoints import describe, load_strictly, plain_state_dict, read, resolve
from ..datasets import BatchClsDataPreprocessor
from ..randomness import untouched_random_state
from ..teachers.logit_store import OWN, TeacherLogits, describe_normalisation, hash_of_weights
from ..teachers.stored_teacher import StoredTeacher


@MODELS.register_module()
class FrozenTeacherDistill(SingleTeacherDistill):
    """MMRazor's ``SingleTeacherDistill`` for a teacher that never changes.

    Takes the same config. What differs:

    - the teacher's weights must all be there: strict loading, no silently
      random teacher;
    - the teacher gives logits only (``mode='tensor'``, no labels, no loss of
      its own), without gradient, and always in evaluation mode, dropout
      included;
    - the teacher is no submodule: neither optimizer, ``state_dict``, EMA nor
      DDP see it, so checkpoints hold the student alone;
    - a teacher with a ``data_preprocessor`` of its own gets its images in its
      own normalisation and channel order.

    Args:
        distiller (dict): Config of the distiller.
        teacher (dict | BaseModel): Config of the teacher, or the built one.
        teacher_ckpt (str, optional): The teacher's checkpoint: a file, a URL
            or a work dir, whose latest is taken. A training file of its own,
            a plain one and one of a distilled student all serve. Defaults to
            None, which only a ready-built teacher and one of MMEngine's
            ``dict(cfg_path=..., pretrained=True)`` allow.
        teacher_config (str, optional): The config that trains the teacher,
            named in the error if ``teacher_ckpt`` is missing. Defaults to
            None.
        teacher_logits (str | dict, optional): The folder of a teacher's stored
            logits (``tools/cache_teacher.py``), or the arguments of
            :class:`~prkd_mm.teachers.logit_store.TeacherLogits`. There is no teacher
            in memory then, and ``teacher_ckpt``, if the file is there, only
            has to be the one that they are of. Defaults to None.
        fold_teacher_bn (bool): Fold the teacher's batch norms into the
            convolutions in front of them, where there are such: fewer kernels
            on a GPU, nothing gained on a CPU. Defaults to False.
        **kwargs: As of ``SingleTeacherDistill``; ``teacher_trainable`` must
            stay False.

    Raises:
        FileNotFoundError: ``teacher_ckpt`` does not exist.
        ValueError: No ``teacher_ckpt``, one of another architecture or class
            count, or ``teacher_trainable``.
    """

    def __init__(
        self,
        distiller: dict,
        teacher: Union[BaseModel, dict],
        teacher_ckpt: Optional[str] = None,
        teacher_config: Optional[str] = None,
        teacher_logits: Union[str, dict, None] = None,
        fold_teacher_bn: bool = False,
        **kwargs,
    ) -> None:
        if kwargs.get('teacher_trainable') or not kwargs.get('student_trainable', True):
            raise ValueError(
                'FrozenTeacherDistill: the student learns and '
                'the teacher does not; for anything else use '
                "type='SingleTeacherDistill'"
            )
        if teacher_logits is not None:
            teacher = self._stored(teacher_logits, teacher_ckpt)
            teacher_ckpt, fold_teacher_bn = None, False
        if teacher_ckpt is None and isinstance(teacher, dict) and not teacher.get('pretrained'):
            raise ValueError(
                'FrozenTeacherDistill: teacher_ckpt is missing, so the '
                "teacher would have random weights; give the teacher's "
                f'checkpoint{self._how_to_train(teacher_config)}'
            )
        if isinstance(teacher, dict):
            # a seed gives the same student with and without a teacher
            with untouched_random_state():
                teacher = MODELS.build(teacher)
        super().__init__(distiller=distiller, teacher=teacher, **kwargs)
        if teacher_ckpt is not None:
            self._load_teacher(teacher_ckpt, teacher_config)
        self._check_classes()
        if fold_teacher_bn:
            self._fold_batch_norms()
        # beside the module tree, not in it
        self.__dict__['teacher'] = self._modules.pop('teacher').eval()
        self._map_normalisation()
        if teacher_logits is not None:
            self._draw_the_stored_views()

    def _fold_batch_norms(self) -> None:
        self.teacher.eval()  # MMPretrain's backbones return None
        try:
            self.teacher.backbone = fuse(self.teacher.backbone)
        except Exception as error:  # of torch.fx, of any kind
            raise ValueError(
                'FrozenTeacherDistill: fold_teacher_bn needs a backbone that '
                'torch.fx can trace, and no recorder in it; leave it out '
                f'({type(error).__name__}: {error})'
            ) from error

    @staticmethod
    def _stored(logits: Union[str, dict], teacher_ckpt: Optional[str]) -> StoredTeacher:
        store = TeacherLogits(**(dict(folder=logits) if isinstance(logits, str) else logits))
        compared = 'not compared with a checkpoint'
        with suppress(FileNotFoundError):
            if teacher_ckpt and '://' not in teacher_ckpt:
                state = plain_state_dict(read(teacher_ckpt))[0]
                store.check(teacher=hash_of_weights(state))
                compared = f'the one of {resolve(teacher_ckpt)}'
        print_log(
            f'The teacher is stored in {store.folder}: {store.views} views of '
            f'{store.header["images"]:,} images; {compared}',
            logger='current',
        )
        return StoredTeacher(store)

    def _draw_the_stored_views(self) -> None:
        preprocessor, store = self.data_preprocessor, self.teacher.store
        if not isinstance(preprocessor, BatchClsDataPreprocessor):
            raise ValueError(
                'FrozenTeacherDistill: stored logits need a data_preprocessor '
                "of type='BatchClsDataPreprocessor', which draws the same "
                f'views again, got {type(preprocessor).__name__}'
            )
        if store.header['normalisation'] != OWN:
            store.check(normalisation=describe_normalisation(preprocessor))
        preprocessor.views = store.views
        preprocessor.seed = store.header['seed']

    @staticmethod
    def _how_to_train(teacher_config: Optional[str]) -> str:
        if not teacher_config:
            return ''
        return f'. To train it:\n  python tools/train.py {teacher_config}'

    def _load_teacher(self, path: str, config: Optional[str]) -> None:
        try:
            checkpoint = read(path)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'FrozenTeacherDistill: {error}; teacher_ckpt must be the '
                f'checkpoint of a trained teacher{self._how_to_train(config)}'
            ) from error
        load_strictly(
            self.teacher, plain_state_dict(checkpoint)[0], f'The teacher checkpoint {path!r}'
        )
        print_log(
            f'The teacher has the {describe(checkpoint)}, of {resolve(path)}', logger='current'
        )

    def _check_classes(self) -> None:
        student, teacher = (
            getattr(getattr(net, 'head', None), 'num_classes', None)
            for net in (self.student, self.teacher)
        )
        if None not in (student, teacher) and student != teacher:
            raise ValueError(
                f'FrozenTeacherDistill: the student has {student} classes and '
                f'the teacher {teacher}; their logits can only be compared '
                'over the same classes'
            )

    def _map_normalisation(self) -> None:
        """Find the map from the student's normalised images to the teacher's.

        With x = (image − mean)/std: x_T = (x·std + mean − mean_T)/std_T.
        """
        scale = shift = None
        self._flip_channels = False
        if getattr(self.teacher.data_preprocessor, '_enable_normalize', False):
            mean, std, is_rgb = _normalisation(self.data_preprocessor)
            mean_T, std_T, is_rgb_T = _normalisation(self.teacher.data_preprocessor)
            self._flip_channels = is_rgb != is_rgb_T
            if self._flip_channels:
                mean, std = mean.flip(0), std.flip(0)
            scale, shift = std / std_T, (mean - mean_T) / std_T
        self.register_buffer('_scale', scale, persistent=False)
        self.register_buffer('_shift', shift, persistent=False)

    @property
    def has_own_normalisation(self) -> bool:
        """Whether the teacher gets its images in another normalisation."""
        return self._scale is not None

    def teacher_inputs(self, inputs: Tensor) -> Tensor:
        """The student's inputs ``(N, ...)`` in the teacher's normalisation."""
        if self._scale is None:
            return inputs
        if self._flip_channels:
            inputs = inputs.flip(1)
        return inputs * self._scale + self._shift

    def _ask_teacher(self, batch_inputs: Tensor, data_samples) -> None:
        if isinstance(self.teacher, StoredTeacher):
            self.teacher(batch_inputs, data_samples)
        else:
            self.teacher(self.teacher_inputs(batch_inputs), mode='tensor')

    def loss(self, batch_inputs: Tensor, data_samples: Optional[list] = None) -> dict:
        """The student's own losses and those of the distiller."""
        distiller, losses = self.distiller, {}
        if not self.distillation_stopped:
            distiller.set_deliveries_override(False)
            with torch.no_grad(), distiller.teacher_recorders, distiller.deliveries:
                self._ask_teacher(batch_inputs, data_samples)

        distiller.set_deliveries_override(True)
        with distiller.student_recorders, distiller.deliveries:
            student_losses = self.student(batch_inputs, data_samples, mode='loss')
        if self.calculate_student_loss:
            losses.update(add_prefix(student_losses, 'student'))
        if not self.distillation_stopped:
            losses.update(add_prefix(distiller.compute_distill_losses(), 'distill'))
        for manager in (distiller.student_recorders, distiller.teacher_recorders):
            for recorder in manager.recorders.values():
                recorder.reset_data_buffer()  # it would keep the graph alive
        return losses

    def train(self, mode: bool = True) -> 'FrozenTeacherDistill':
        """Set the student's mode; the teacher stays in evaluation mode."""
        nn.Module.train(self, mode)  # the parent's returns None
        self.teacher.eval()
        return self

    def _apply(self, fn: Callable, *args, **kwargs) -> 'FrozenTeacherDistill':
        # `to`, `cuda`, `half` ... reach the teacher here
        self.teacher._apply(fn, *args, **kwargs)
        return super()._apply(fn, *args, **kwargs)


def _normalisation(preprocessor: nn.Module) -> tuple[Tensor, Tensor, bool]:
    """Mean, standard deviation (zeros and ones if none) and whether RGB."""
    is_rgb = getattr(preprocessor, 'to_rgb', False) or getattr(
        preprocessor, '_channel_conversion', False
    )
    if not getattr(preprocessor, '_enable_normalize', False):
        return torch.zeros(1, 1, 1), torch.ones(1, 1, 1), is_rgb
    return preprocessor.mean, preprocessor.std, is_rgb
