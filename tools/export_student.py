"""Export a trained student: plain checkpoint, safetensors, torch.export, ONNX, int8 ONNX."""

from pathlib import Path
from typing import Callable, Optional

import numpy as np
from mmengine.registry import MODELS
from rich.table import Table

import prkd_mm  # noqa: F401  before mmrazor, which it patches
from prkd_mm.cli import ArgumentParser, output_folder, run, whole_number, wide_console
from prkd_mm.deploy.checked_images import CheckedImages, of_test_set, of_training_set
from prkd_mm.deploy.export import FORMATS, Exported, export, latency, predictor_of_net
from prkd_mm.deploy.predict import find_images
from prkd_mm.deploy.student import Student, load_image, load_student


def parse_args():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('run', help='a work dir, for its averaged student, or a checkpoint')
    parser.add_argument(
        '--config', help='the config of the run; default: the one in the checkpoint'
    )
    parser.add_argument(
        '--out', type=output_folder, help='output folder; default: <work dir>/export'
    )
    parser.add_argument(
        '--formats',
        default=','.join(FORMATS),
        help=f'some of {",".join(FORMATS)}, separated by commas; default: all',
    )
    parser.add_argument(
        '--images', type=Path, help='images for the checks; default: test images of the config'
    )
    parser.add_argument(
        '--calibration',
        type=Path,
        help='other images, to calibrate the int8 file; default: training images of the config',
    )
    parser.add_argument(
        '--number',
        type=whole_number(1),
        default=256,
        help='number of images for the checks, and for the calibration; default: %(default)s',
    )
    parser.add_argument(
        '--size',
        type=whole_number(1),
        help='side length of the images in pixels; default: that of the config',
    )
    args = parser.parse_args()
    args.formats = args.formats.split(',')
    unknown = sorted(set(args.formats) - set(FORMATS))
    if unknown:
        parser.error(f'unknown format {", ".join(unknown)}; choose from {", ".join(FORMATS)}')
    return args


def images_of(
    student: Student,
    folder: Optional[Path],
    number: int,
    default: Callable[[Student, int], CheckedImages],
) -> CheckedImages:
    """Images of a folder, or those of the config."""
    if folder is None:
        return default(student, number)
    paths = find_images([folder])[:number]
    how = student.size, student.channels, student.pipeline
    images = np.stack([load_image(path, *how) for path in paths])
    return CheckedImages(images, None, f'{len(paths)} images of {folder}')


def cost_of_teacher(student: Student, image: np.ndarray) -> str:
    if student.teacher is None:
        return 'Teacher: not measured, since the checkpoint does not contain its config'
    net = MODELS.build(student.teacher).eval()
    parameters = sum(value.numel() for value in net.parameters())
    megabytes = sum(value.nbytes for value in net.state_dict().values()) / 1e6
    predict = predictor_of_net(net)
    milliseconds = latency(lambda: predict(image))
    return (
        f'Teacher, in PyTorch on this computer: {parameters:,} parameters, {megabytes:.2f} MB, '
        f'{milliseconds:.2f} ms per image'
    )


def show(student: Student, checked: CheckedImages, exported: list[Exported]) -> None:
    parameters = sum(value.numel() for value in student.net.net.parameters())
    table = Table(
        title=f'{student.source}: {parameters:,} parameters, '
        f'{student.channels}x{student.size}x{student.size}, checked on {checked.description}',
        caption=cost_of_teacher(student, checked.images[:1]),
    )
    for heading in (
        'file',
        'MB',
        'largest difference',
        'same class, %',
        'top-1, %',
        'ms per image',
    ):
        table.add_column(heading, justify='left' if heading == 'file' else 'right')
    for each in exported:
        table.add_row(
            str(each.path),
            f'{each.megabytes:.2f}',
            f'{each.difference:.1e}',
            f'{each.same_class * 100:.1f}',
            '-' if each.top1 is None else f'{each.top1:.2f}',
            f'{each.milliseconds:.2f}',
        )
    wide_console().print(table)


def main() -> None:
    args = parse_args()
    student = load_student(args.run, args.config, args.size)
    out = args.out or Path(student.source).parent / 'export'
    checked = images_of(student, args.images, args.number, of_test_set)
    calibration = None
    if 'int8' in args.formats:
        others = images_of(student, args.calibration, args.number, of_training_set)
        calibration = others.images
    exported = export(student, out, checked.images, checked.labels, args.formats, calibration)
    show(student, checked, exported)


if __name__ == '__main__':
    run(main)
