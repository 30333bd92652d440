import pytest
from rich.console import Console

from prkd_mm.experiments import plan
from prkd_mm.experiments.analyses import analyse

DIGITS = 'configs/quickstart/prkd_digits.py'


@pytest.mark.parametrize('methods, name, words', [
    (['ce'], 'strength', 'No figure of strength: it needs a student that was'),
    (['ce', 'kd'], 'spread', 'No figure of spread: '),  # nothing is trained
    (['kd'], 'compare', 'No figure of compare: ')])
def test_what_cannot_be_drawn_is_told(tmp_path, monkeypatch, request,
                                      methods, name, words):
    (tmp_path / 'configs').symlink_to(request.config.rootpath / 'configs')
    monkeypatch.chdir(tmp_path)
    console = Console(record=True, width=200)
    jobs = plan(DIGITS, methods)
    assert analyse(jobs, [name], tmp_path / 'out', console) == []
    assert words in console.export_text()


def test_seed_0_keeps_what_it_averages(request, tmp_path, monkeypatch):
    (tmp_path / 'configs').symlink_to(request.config.rootpath / 'configs')
    monkeypatch.chdir(tmp_path)

    def kept(*options):
        _, first, second = plan(DIGITS, ['kd'], options, seeds=2)
        return [job.cfg.default_hooks.checkpoint.max_keep_ckpts
                for job in (first, second)]

    assert kept() == [10, 2]
    assert kept('default_hooks.tail_average.num_epochs=5') == [5, 2]
    assert kept('default_hooks.tail_average.num_epochs=1') == [2, 2]
    assert kept('default_hooks.tail_average=None') == [2, 2]
    assert kept('default_hooks.checkpoint.max_keep_ckpts=3') == [3, 3]
    assert kept('default_hooks.checkpoint.max_keep_ckpts=20') == [20, 20]
    assert kept('default_hooks.checkpoint.max_keep_ckpts=-1') == [-1, -1]
