import pytest

# in place of tools/train.py: records its command and writes a log of 80 epochs
TRAIN = """
import json, sys
from pathlib import Path
arguments = sys.argv[1:]
folder = 'work_dirs/' + Path(arguments[0]).stem
if '--method' in arguments:
    folder += '_' + arguments[arguments.index('--method') + 1]
folder = folder.replace('digits_prkd', 'digits')  # the config's own method
if '--work-dir' in arguments:
    folder = arguments[arguments.index('--work-dir') + 1]
with open('trained.txt', 'a') as file:
    print(Path(folder).name, file=file)
log = Path(folder, '1/vis_data/scalars.json')
log.parent.mkdir(parents=True)
top1 = 50 + len(arguments)
rows = [{'accuracy/top1': top1 + e / 80, 'student_avg/accuracy/top1': top1 + 2, 'step': e}
        for e in range(1, 81)]
own = dict(lr=0.1, loss=2.5)
rows = [dict(own, epoch=-(-i // 9), step=i, **{'a.strength': 27 / i, 'b.strength': 1})
        for i in (1, 9, 18, 719, 720)] + rows
log.write_text(''.join(json.dumps(row) + '\\n' for row in rows))
"""


@pytest.fixture
def folder(checkout):
    """A checkout in which a training only writes a log."""
    (checkout / 'train.py').write_text(TRAIN)
    return checkout
