"""Export a student to formats for other programs, and check each file."""

import copy
import importlib
import json
import os
import timeit
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Callable, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

from ..checkpoints import load_exported, load_strictly
from ..cli import first_line
from ..files import sync_file, write_json, write_text
from ..teachers.logit_store import hash_of_weights
from .student import Student
from .student_config import preparation_text, shorter_edge

_SUFFIXES = dict(
    pth='.pth', safetensors='.safetensors', pt2='.pt2', onnx='.onnx', int8='.int8.onnx'
)
FORMATS = tuple(_SUFFIXES)
TOLERANCE = 1e-4  # largest allowed difference from the logits of the PyTorch net


class Exported(NamedTuple):
    """An exported file, compared with the PyTorch net."""

    format: str  # one of FORMATS
    path: Path
    megabytes: float
    difference: float  # largest absolute difference of the logits
    same_class: float  # share of images with the same predicted class
    top1: Optional[float]  # accuracy in percent, if the labels are known
    milliseconds: float  # median time for one image on this computer


def export(
    student: Student,
    folder: Path,
    images: np.ndarray,
    labels: Optional[np.ndarray] = None,
    formats: Sequence[str] = FORMATS,
    calibration: Optional[np.ndarray] = None,
) -> list[Exported]:
    """Export the student to files ``student.*`` and check each of them on images.

    Files of the folder are replaced only after all checks.

    Args:
        student, folder: The student, and the output folder.
        images, labels: ``(N, channels, size, size)``, values from 0 to 255, and their labels.
        formats: Some of :data:`FORMATS`.
        calibration: Other images, which set the ranges of the activations in the int8 file.

    Raises:
        ImportError: If a format needs a package that is not installed.
        ValueError: If the logits of a file, except for int8, differ from those of the net by more
            than :data:`TOLERANCE`, if there are no images to calibrate the int8 file, or if files
            of another student would remain in the folder.
    """
    if 'int8' in formats and calibration is None:
        raise ValueError('int8 needs calibration images, other than those that it is checked on')
    weights = hash_of_weights(student.state)
    _refuse_another_student(student, weights, folder, formats)
    folder.mkdir(parents=True, exist_ok=True)
    expected = predictor_of_net(student.net)(images)
    exported = []
    with TemporaryDirectory(prefix='.unchecked-', dir=folder) as unchecked:
        for name in formats:
            path = Path(unchecked, f'student{_SUFFIXES[name]}')
            if name == 'int8':
                _write_int8(student, path, calibration)
            else:
                _WRITERS[name](student, path)
            exported.append(_check(name, path, student, images, labels, expected))
        for file in Path(unchecked).iterdir():
            sync_file(file)
            os.replace(file, folder / file.name)
    describe = dict(
        classes=student.classes,
        size=student.size,
        resize=shorter_edge(student.pipeline),
        channels=student.channels,
        input='float32 (N, channels, size, size), RGB or gray, 0 to 255; normalized inside',
        preparation=preparation_text(student.pipeline),
        pipeline=student.pipeline,
        output='logits (N, classes)',
        source=student.source,
        weights=weights,
        metrics=student.meta.get('metrics', {}),
    )
    write_json(folder / 'student.json', describe, indent=2)
    return [each._replace(path=folder / each.path.name) for each in exported]


def _refuse_another_student(
    student: Student, weights: str, folder: Path, formats: Sequence[str]
) -> None:
    """One ``student.json`` describes all files of a folder, so they must be of one student."""
    remain = [
        f'student{suffix}'
        for name, suffix in _SUFFIXES.items()
        if name not in formats
        if (folder / f'student{suffix}').exists()
    ]
    if not remain:
        return
    try:
        about = dict(json.loads((folder / 'student.json').read_text()))
    except (OSError, ValueError, TypeError):
        about = {}
    # files of older versions have neither `weights` nor `pipeline`
    same_weights = (
        about['weights'] == weights if 'weights' in about else about.get('source') == student.source
    )
    size, pipeline = about.get('size'), about.get('pipeline', student.pipeline)
    if same_weights and (size, pipeline) == (student.size, student.pipeline):
        return
    raise ValueError(
        f'{str(folder)!r} holds {", ".join(remain)} of {about.get("source", "unknown origin")!r} '
        f'at size {size}, with other weights or images than {student.source!r} at size '
        f'{student.size}: set another folder with --out, or export these formats, too'
    )


def _check(
    name: str,
    path: Path,
    student: Student,
    images: np.ndarray,
    labels: Optional[np.ndarray],
    expected: np.ndarray,
) -> Exported:
    predict = predictor(path, student)
    logits = predict(images)
    difference = float(np.abs(logits - expected).max())
    if name != 'int8' and difference > TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise ValueError(
            f'{path.name} does not match the PyTorch net: the logits differ by {difference:.2e}'
        )
    found = logits.argmax(1)
    return Exported(
        name,
        path,
        path.stat().st_size / 1e6,
        difference,
        float((found == expected.argmax(1)).mean()),
        None if labels is None else float((found == labels).mean() * 100),
        latency(lambda: predict(images[:1])),
    )


def latency(run: Callable[[], object], repeats: int = 20) -> float:
    """Median time of a call in milliseconds, after one warm-up call."""
    run()
    return float(np.median(timeit.repeat(run, number=1, repeat=repeats)) * 1e3)


def predictor(path: Path, student: Optional[Student] = None) -> Callable[[np.ndarray], np.ndarray]:
    """Load an exported file as a function from images to logits.

    The student provides the net if the file has weights only.

    Raises:
        ValueError: If the file is damaged, or has weights only and ``student`` is None or another
            one.
    """
    if path.suffix == '.onnx':
        return _onnx_predictor(path)
    if path.suffix == '.pt2':
        try:
            net = load_exported(path)
        except ValueError as error:
            raise ValueError(f'{error}; export the student again') from error
    elif student is None:
        raise ValueError(f'{str(path)!r} holds weights only and needs its config')
    else:
        net = _with_weights(path, student)
    return predictor_of_net(net)


def predictor_of_net(net: Callable[[Tensor], Tensor]) -> Callable[[np.ndarray], np.ndarray]:
    """Wrap a net as a function from NumPy images to NumPy logits."""

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return net(torch.from_numpy(images)).numpy()

    return predict


def _with_weights(path: Path, student: Student) -> torch.nn.Module:
    net = copy.deepcopy(student.net)
    if path.suffix == '.safetensors':
        load_file = _need('safetensors.torch').load_file
        try:
            state = load_file(path)
        except Exception as error:  # of types of safetensors
            raise ValueError(_damaged(path, error)) from error
    else:
        state = torch.load(path, weights_only=True)['state_dict']
    load_strictly(net.net, state, f'The file {str(path)!r}')
    return net


def _damaged(path: Path, error: Exception) -> str:
    return f'{str(path)!r} is damaged or cut short ({first_line(error)}); export the student again'


def _onnx_predictor(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    onnxruntime = _need('onnxruntime')
    try:
        session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    except Exception as error:  # of types of ONNX Runtime
        raise ValueError(_damaged(path, error)) from error
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def _need(package: str):
    try:
        return importlib.import_module(package)
    except ImportError as error:
        name = package.partition('.')[0]
        raise ImportError(
            f"this needs {name}: `pip install 'prkd-mm[export]'` or `pip install {name}`"
        ) from error


def _write_pth(student: Student, path: Path) -> None:
    meta = {
        key: student.meta[key]
        for key in ('metrics', 'dataset_meta', 'student_config')
        if key in student.meta
    }
    meta.setdefault('dataset_meta', dict(classes=tuple(student.classes)))
    torch.save(dict(meta=meta, state_dict=student.state), path)
    write_text(path.with_name('student_config.py'), student.config.pretty_text)


def _write_safetensors(student: Student, path: Path) -> None:
    save_file = _need('safetensors.torch').save_file
    save_file({name: value.contiguous() for name, value in student.state.items()}, path)


def _write_pt2(student: Student, path: Path) -> None:
    batch = torch.export.Dim('batch', min=1)
    # With an example of one image, the batch size would always be 1.
    program = torch.export.export(
        student.net, (_example(student, 2),), dynamic_shapes=({0: batch},)
    )
    torch.export.save(program, path)


def _write_onnx(student: Student, path: Path) -> None:
    _need('onnx')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the exporter without onnxscript is deprecated
        torch.onnx.export(
            student.net,
            (_example(student, 1),),
            str(path),
            input_names=['images'],
            output_names=['logits'],
            dynamic_axes=dict(images={0: 'batch'}, logits={0: 'batch'}),
            dynamo=False,
        )


def _write_int8(student: Student, path: Path, images: np.ndarray) -> None:
    _need('onnxruntime')
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(np.array_split(images, max(1, len(images) // 32)))

        def get_next(self) -> Optional[dict]:
            batch = next(self.batches, None)
            return None if batch is None else dict(images=batch)

    full = path.with_name('.full.onnx')
    try:
        _write_onnx(student, full)
        quant_pre_process(str(full), str(full))
        quantize_static(
            str(full),
            str(path),
            Images(),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
    finally:
        full.unlink(missing_ok=True)


def _example(student: Student, number: int) -> Tensor:
    return torch.zeros(number, student.channels, student.size, student.size)


_WRITERS = dict(pth=_write_pth, safetensors=_write_safetensors, pt2=_write_pt2, onnx=_write_onnx)
