import copy
from typing import Callable, Optional, Union

import torch
from mmengine.model import BaseModel
from mmpretrain.models.heads import MultiLabelClsHead
from mmrazor.models.algorithms import SingleTeacherDistill
from mmrazor.models.utils import add_prefix
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ..checks.metric_checks import num_classes
from ..strength import losses_on_logits, terms_of
from ..teachers import Spec, build_teachers
from .student_alone import with_preprocessor


@MODELS.register_module()
class FrozenTeacherDistill(SingleTeacherDistill):
    """MMRazor's ``SingleTeacherDistill`` with a frozen teacher.

    It accepts the same config. The differences:

    - the teacher's weights are loaded strictly, so no layer is left with random weights;
    - the teacher computes only logits (``mode='tensor'``, without labels and without its own loss),
      without gradient, and always in evaluation mode, including dropout;
    - the teacher is not a submodule, so the optimizer, ``state_dict``, EMA and DDP exclude it, and
      checkpoints contain only the student; deep copies of the algorithm share it, and compute
      losses only on its device;
    - a teacher with its own ``data_preprocessor`` receives images in its own normalization and
      channel order;
    - the teacher may come from another library or a file, and there may be several teachers.

    Args:
        distiller (dict): Config of the distiller.
        teacher (dict | BaseModel | str | list): Config of the teacher, or the teacher itself; or a
            name: a model of MMPretrain's zoo, or ``timm::NAME``, ``torchvision::NAME``,
            ``transformers::NAME``; or a TorchScript file (``.pt``), a ``torch.export`` file
            (``.pt2``) or an ONNX file (``.onnx``).
            ``dict(source=NAME, mean=..., std=..., to_rgb=..., image_size=...)`` specifies the
            images for a named teacher; see :class:`~prkd_mm.teachers.SourceTeacher`. A list
            describes several teachers; the student learns from their mean.
        teacher_ckpt (str | list, optional): The teacher's checkpoint: a file, a URL, or a work dir,
            whose latest checkpoint is used. It may be a training checkpoint, a plain checkpoint, or
            the checkpoint of a distilled student. Required if ``teacher`` is a config other than
            MMEngine's ``dict(cfg_path=..., pretrained=True)``. Without it, a named teacher uses its
            published weights. Defaults to None.
        teacher_config (str | list, optional): The config that trains the teacher, for the error
            message if ``teacher_ckpt`` is missing. Defaults to None.
        teacher_logits (str | dict | list, optional): The folder of a teacher's stored logits
            (``tools/cache_teacher.py``), or the arguments of
            :class:`~prkd_mm.teachers.logit_store.TeacherLogits`. If the teacher is available, it
            computes the logits of eight images, which must be the stored ones, and is validated, if
            the store has no accuracy on this validation set. Then it does not run any more.
            ``dict(views=K, folder=..., topk=...)`` fills such a store during the first K epochs;
            see :class:`~prkd_mm.teachers.FillingTeacher`. This needs the ``FillStoreHook``, which
            ``tools/train.py`` adds. Defaults to None.
        teacher_mean (dict, optional): How to average several teachers: ``dict(of='logits')``, or
            ``dict(of='probabilities', tau=4.0)`` for the mean of their probabilities at that
            temperature. Defaults to None, which averages the logits.
        fold_teacher_bn (bool): Whether to fold the teacher's batch norms into the convolutions that
            precede them. This saves kernel launches on a GPU, but is no faster on a CPU. Defaults
            to False.
        **kwargs: Arguments of ``SingleTeacherDistill``; ``teacher_trainable`` must stay False.

    Attributes:
        teacher (Teacher): The teacher, outside the module tree.
            ``teacher.logits(inputs, data_samples)`` computes its logits, and ``teacher.net`` is the
            module that recorders are attached to.

    Raises:
        FileNotFoundError: If ``teacher_ckpt`` does not exist.
        ValueError: If ``teacher_ckpt`` is missing or belongs to a different architecture or class
            count, if a multi-label head is distilled by a loss of probabilities, if
            ``teacher_trainable`` is True, or if ``architecture`` has a data preprocessor of its own
            with other settings than that of the model.
    """

    def __init__(
        self,
        distiller: dict,
        teacher: Union[BaseModel, dict, str, list, None],
        teacher_ckpt: Union[str, list, None] = None,
        teacher_config: Union[str, list, None] = None,
        teacher_logits: Union[str, dict, list, None] = None,
        teacher_mean: Optional[dict] = None,
        fold_teacher_bn: bool = False,
        **kwargs,
    ) -> None:
        if kwargs.get('teacher_trainable') or not kwargs.get('student_trainable', True):
            raise ValueError(
                'FrozenTeacherDistill: the student is trained and the teacher is not; for other '
                "combinations use type='SingleTeacherDistill'"
            )
        # build_teachers() splits lists
        spec = Spec(teacher, teacher_ckpt, teacher_config, teacher_logits)  # type: ignore[arg-type]
        classes = num_classes(kwargs.get('architecture'))
        built = build_teachers(spec, teacher_mean, fold_teacher_bn, classes)
        super().__init__(distiller=distiller, teacher=built.net, **with_preprocessor(kwargs))
        self._check_classes(built.num_classes)
        self._check_heads(built)
        built.adapt_to(self.data_preprocessor)
        del self.teacher
        self.__dict__['teacher'] = built.eval()  # keeps it out of the module tree
        self._moves_teacher = True  # False in copies, such as EMA's, which may be on another device

    def _check_classes(self, teachers: Optional[int]) -> None:
        students = num_classes(self.student)
        if None not in (students, teachers) and students != teachers:
            raise ValueError(
                f'FrozenTeacherDistill: the student has {students} classes and the teacher '
                f'{teachers}; their logits can only be compared over the same classes'
            )

    def _check_heads(self, teacher: nn.Module) -> None:
        losses = losses_on_logits(self.distiller).items()
        compared = [
            name for name, loss in losses if any(term.kind != 'logit' for term in terms_of(loss))
        ]
        for owner, net in dict(student=self.student, teacher=teacher).items():
            heads = [type(m).__name__ for m in net.modules() if isinstance(m, MultiLabelClsHead)]
            if heads and compared:
                raise ValueError(
                    f'FrozenTeacherDistill: the {owner} has a multi-label head, {heads[0]}, but '
                    f'{", ".join(compared)} compares probabilities that add up to 1 over the '
                    'classes; use heads for a single label, or L2Loss on the logits'
                )

    def loss(self, batch_inputs: Tensor, data_samples: Optional[list] = None) -> dict:
        """The student's own losses and those of the distiller."""
        distiller, losses = self.distiller, {}
        if not self.distillation_stopped:
            distiller.set_deliveries_override(False)
            with torch.no_grad(), distiller.teacher_recorders, distiller.deliveries:
                self.teacher.logits(batch_inputs, data_samples)

        distiller.set_deliveries_override(True)
        with distiller.student_recorders, distiller.deliveries:
            student_losses = self.student(batch_inputs, data_samples, mode='loss')
        if self.calculate_student_loss:
            losses.update(add_prefix(student_losses, 'student'))
        if not self.distillation_stopped:
            losses.update(add_prefix(distiller.compute_distill_losses(), 'distill'))
        for manager in (distiller.student_recorders, distiller.teacher_recorders):
            for recorder in manager.recorders.values():
                recorder.reset_data_buffer()  # otherwise it would keep the graph in memory
        return losses

    def train(self, mode: bool = True) -> 'FrozenTeacherDistill':
        """Set the student's mode; the teacher stays in evaluation mode."""
        nn.Module.train(self, mode)  # the parent class returns None
        self.teacher.eval()
        return self

    def __deepcopy__(self, memo: dict) -> 'FrozenTeacherDistill':
        # EMA copies the model (mmengine/model/averaged_model.py). The frozen teacher, or its stored
        # logits, would only take twice the memory; its recorders are hooks on its layers.
        for shared in (self.teacher, self.distiller.teacher_recorders):
            memo[id(shared)] = shared
        copied = memo[id(self)] = type(self).__new__(type(self))
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo), _moves_teacher=False)
        return copied

    def _apply(self, fn: Callable, *args, **kwargs) -> 'FrozenTeacherDistill':
        # `to`, `cuda`, `half` and others call this method
        if self._moves_teacher:
            self.teacher._apply(fn, *args, **kwargs)
        return super()._apply(fn, *args, **kwargs)
