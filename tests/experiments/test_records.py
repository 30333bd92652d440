"""Recorded runs count as finished, even without their work dirs."""

import json
import shutil
from pathlib import Path

import pytest
from project import DIGITS
from rich.console import Console

from prkd_mm.config import load_config
from prkd_mm.experiments import plan, run_all
from prkd_mm.experiments.records import read_record, read_records, settings_of
from prkd_mm.experiments.run_comparison import report_records


def compare(folder, methods=('ce', 'kd'), **options):
    """Train the missing runs; return their work dirs and all jobs."""
    (folder / 'trained.txt').write_text('')
    jobs = plan(DIGITS, list(methods), records=folder / 'records', **options)
    run_all(jobs, 'train.py', Console(quiet=True))
    return (folder / 'trained.txt').read_text().split(), jobs


def test_recorded_runs_need_no_work_dirs(folder):
    trained, jobs = compare(folder, seeds=2)
    assert trained == [
        'teacher_digits',
        'prkd_digits_ce',
        'prkd_digits_kd',
        'prkd_digits_ce_seed1',
        'prkd_digits_kd_seed1',
    ]
    before = [job.record() for job in jobs]
    assert before[2].last == before[2].best == before[2].averaged - 1
    assert before[2].strength == (28, 1 + 27 / 720)  # that of both losses, at both ends of the run
    assert before[2].seed == 0 and before[2].method == 'kd' and before[2].title == 'KD'
    shutil.rmtree(folder / 'work_dirs')
    trained, jobs = compare(folder, seeds=2)
    assert trained == []
    assert [job.record() for job in jobs] == before


def test_a_new_student_trains_a_missing_teacher_again(folder):
    compare(folder)
    shutil.rmtree(folder / 'work_dirs')
    assert compare(folder, ['ce', 'kd', 'prkd'])[0] == ['teacher_digits', 'prkd_digits']


@pytest.mark.parametrize(
    'options',
    [
        dict(options=['model.distiller.distill_losses.loss_kl.tau=2.0']),
        dict(options=['train_cfg.val_interval=2']),
        dict(teacher_options=['optim_wrapper.optimizer.lr=0.01']),
        dict(teacher_options=['randomness.seed=7']),
        dict(amp=True),
        dict(store_views=2),
    ],
)
def test_other_settings_are_other_runs(folder, options):
    jobs = plan(DIGITS, ['kd'], records=folder)
    others = plan(DIGITS, ['kd'], records=folder, **options)
    assert jobs[-1].record_file != others[-1].record_file


def test_the_student_alone_does_not_depend_on_the_teacher(folder):
    compare(folder, ['kd'])
    shutil.rmtree(folder / 'work_dirs')
    assert compare(folder)[0] == ['prkd_digits_ce']


@pytest.mark.parametrize(
    'options',
    [
        ['train_dataloader.dataset.dataset.data_root=/data'],
        ['default_hooks.checkpoint.max_keep_ckpts=7'],
        ['default_hooks.logger.interval=1'],
        ['train_dataloader.pin_memory=True'],
        ['train_dataloader.num_workers=2', 'train_dataloader.persistent_workers=True'],
    ],
)
def test_paths_workers_and_logging_do_not_change_the_settings(folder, options):
    (first, second), changed = (
        plan(DIGITS, ['kd'], given, seeds=2, records=folder)[1:] for given in ([], options)
    )
    assert {job.settings for job in (first, second, *changed)} == {first.settings}
    assert first.record_file != second.record_file


def test_a_key_is_ignored_only_where_it_has_no_effect():
    """A backbone's own checkpoint and the seed of the views do affect the results."""
    cfg = load_config(DIGITS)
    found = {settings_of(cfg)}
    for changed in (
        {'model.architecture.backbone.init_cfg': dict(type='Pretrained', checkpoint='a.pth')},
        {'model.architecture.backbone.init_cfg': dict(type='Pretrained', checkpoint='b.pth')},
        {'train_dataloader.dataset.seed': 1},
        {'train_dataloader.dataset.seed': 2},
    ):
        other = load_config(DIGITS)
        other.merge_from_dict(changed)
        found.add(settings_of(other))
    assert len(found) == 5


def test_a_work_dir_that_is_finished_is_recorded_later(folder):
    run_all(plan(DIGITS, ['kd']), 'train.py', Console(quiet=True))
    assert compare(folder, ['kd'])[0] == []
    assert len(read_records(folder / 'records')) == 2


def test_records_are_in_the_order_of_the_methods(folder):
    compare(folder, ['kd', 'ce'], seeds=2)
    found = read_records(folder / 'records')
    assert [record.method for record in found] == [None, 'ce', 'ce', 'kd', 'kd']


def test_records_alone_make_a_report(folder):
    compare(folder, seeds=2)
    shutil.rmtree(folder / 'work_dirs')
    console = Console(record=True, width=120)
    report_records([folder / 'records'], folder / 'out', 'a command', console)
    said = console.export_text()
    assert 'KD − student alone' in said and 'teacher' in said
    numbers = json.loads((folder / 'out/results.json').read_text())
    assert [row['name'] for row in numbers['rows']] == ['teacher', 'student alone', 'KD']
    assert numbers['rows'][2]['seeds'] == [0, 1]
    one = dict(methods=['kd'], seeds=1)
    report_records([folder / 'records'], folder / 'out', 'a command', console, **one)
    numbers = json.loads((folder / 'out/results.json').read_text())
    assert [(row['name'], row['seeds']) for row in numbers['rows']] == [
        ('teacher', [0]),
        ('KD', [0]),
    ]


def test_records_of_several_folders_make_one_report(folder):
    """The copy of a record counts once, and another result of the same run is an error."""
    compare(folder, seeds=2)
    old, new = folder / 'records', folder / 'new'
    new.mkdir()
    (moved,) = old.glob('*_kd_seed1-*')
    moved.rename(new / moved.name)
    (copied,) = old.glob('*_kd-*')
    shutil.copy(copied, new)
    report_records([old, new], None, 'a command', Console(quiet=True))
    numbers = json.loads(Path('results/records+new/results.json').read_text())
    assert [row['seeds'] for row in numbers['rows']] == [[0], [0, 1], [0, 1]]
    assert numbers['protocol']['records'] == f'{old}, {new}'
    changed = json.loads(copied.read_text())
    (new / copied.name).write_text(json.dumps(dict(changed, last=1.0)))
    with pytest.raises(ValueError, match='two records are of KD with seed 0'):
        report_records([old, new], None, 'a command', Console(quiet=True))
    with pytest.raises(FileNotFoundError, match=f"no records of runs .* in '{folder}/empty'"):
        report_records([old, folder / 'empty'], None, 'a command', Console(quiet=True))


def test_a_report_of_records_is_not_written_among_them(folder):
    compare(folder, ['ce'])
    for out, methods, error in (
        ('records', None, 'would be among the records'),
        ('out', ['kd', 'ce'], "no record in '.*records' is of the method kd"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=error):
            report_records([folder / 'records'], folder / out, '', Console(quiet=True), methods, 1)


def test_progress_comes_from_the_scalars(folder):
    (*_, job) = plan(DIGITS, ['kd'])
    said = []
    job.run('train.py', lambda *state: said.append(state))
    assert said[0] == ('epoch 1/80  loss 2.5000', 0, 80)
    assert said[-1] == (f'epoch 80/80  loss 2.5000  top-1 {job.record().last:.1f} %', 80, 80)


def edit_rows(job, edit):
    """Change the rows of a run's log."""
    (log,) = job.work_dir.glob('*/vis_data/scalars.json')
    rows = edit([json.loads(line) for line in log.read_text().splitlines()])
    log.write_text(''.join(json.dumps(row) + '\n' for row in rows))


@pytest.mark.parametrize(
    'edit, words',
    [
        (lambda rows: rows[:-1], 'no validation after the last epoch, 80'),
        (lambda rows: [row for row in rows if row['step'] % 3 == 0], 'no validation after'),
        (
            lambda rows: [*rows[:-1], {'accuracy/top1': 50.0, 'step': 80}],
            'no validation of the average after the last epoch, 80',
        ),
    ],
    ids=['the last row is missing', 'every third epoch', 'the average is missing'],
)
def test_no_other_epoch_replaces_a_last_epoch_without_validation(folder, edit, words):
    (*_, job) = plan(DIGITS, ['kd'], records=folder / 'records')
    job.run('train.py', lambda *state: None)
    job.record_file.unlink()
    edit_rows(job, edit)
    with pytest.raises(ValueError, match=words):
        job.record()
    with pytest.raises(ValueError, match=words):  # nor in a record
        job.run('train.py', lambda *state: None)
    assert not job.record_file.exists()


def test_the_last_row_of_an_epoch_that_was_repeated_counts(folder):
    (*_, job) = plan(DIGITS, ['kd'])
    job.run('train.py', lambda *state: None)
    again = {'accuracy/top1': 12.5, 'student_avg/accuracy/top1': 13.5, 'step': 80}
    edit_rows(job, lambda rows: [*rows, again])
    assert (job.record().last, job.record().averaged) == (12.5, 13.5)


def test_a_damaged_record_is_named(folder):
    (folder / 'x.json').write_text('{"title": "KD"')
    with pytest.raises(ValueError, match="x.json' is not the record of a run"):
        read_record(folder / 'x.json')
    compare(folder, ['kd'])
    (path,) = (folder / 'records').glob('prkd*.json')
    path.write_text(json.dumps(dict(json.loads(path.read_text()), sharpness=1.0)))
    with pytest.raises(ValueError, match='by a newer version .* has sharpness; update'):
        read_record(path)
    with pytest.raises(FileNotFoundError, match='no records'):
        read_records(folder / 'nothing')
