"""Predict the classes of images with a trained student."""

from pathlib import Path

from rich.table import Table

import prkd_mm  # noqa: F401  before mmrazor, which it patches
from prkd_mm.cli import ArgumentParser, new_file, new_picture, run, whole_number, wide_console
from prkd_mm.deploy.predict import Prediction, Predictor, contact_sheet, find_images
from prkd_mm.files import write_json


def parse_args():
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('images', nargs='+', type=Path, help='image files, or folders of them')
    parser.add_argument(
        '--student',
        required=True,
        help='a work dir, a checkpoint, or a file of tools/export_student.py',
    )
    parser.add_argument(
        '--config', help='the config of the run; default: the one in the checkpoint'
    )
    parser.add_argument(
        '--size',
        type=whole_number(1),
        help='side length of the images in pixels; default: that of the config',
    )
    parser.add_argument(
        '--top',
        type=whole_number(1),
        default=3,
        help='number of classes to show; default: %(default)s',
    )
    parser.add_argument('--json', type=new_file, help='write the predictions to this file')
    parser.add_argument(
        '--sheet', type=new_picture, help='draw the images and their classes to this .png'
    )
    return parser.parse_args()


def show(predictions: list[Prediction]) -> None:
    table = Table('image', 'class', 'others')
    for image, classes, probabilities in predictions:
        named = [f'{name} {value:.1%}' for name, value in zip(classes, probabilities)]
        table.add_row(str(image), named[0], ', '.join(named[1:]))
    wide_console().print(table)


def main() -> None:
    args = parse_args()
    paths = find_images(args.images)
    errors: list[ValueError] = []
    predictor = Predictor(args.student, args.config, args.size)
    predictions = predictor.predict(paths, args.top, skip=errors.append)
    if args.json:
        write_json(args.json, [{**x._asdict(), 'image': str(x.image)} for x in predictions], 2)
    if predictions:
        show(predictions)
        if args.sheet:
            contact_sheet(predictions, args.sheet)
    if errors:
        reasons = '\n'.join(map(str, errors))
        raise ValueError(f'{len(errors)} of {len(paths)} files have no prediction:\n{reasons}')


if __name__ == '__main__':
    run(main)
