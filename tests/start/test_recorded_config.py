import pytest
import toy
from mmengine.config import Config

from prkd_mm.start.recorded_config import changes, parse


class TestParse:
    def test_configs_written_by_mmengine_are_parsed(self):
        cfg = dict(
            a=dict(type='X', b=[1, -2.5, (3, None)], c={'d-e': True}),
            words="it's",
            far=float('inf'),
        )
        expected = dict(cfg, a=dict(cfg['a'], b=[1, -2.5, [3, None]]))
        assert parse(Config(cfg).pretty_text) == expected

    def test_nothing_is_executed(self, tmp_path):
        target = tmp_path / 'made'
        for text in (f"a = open({str(target)!r}, 'w')", f"__import__('os').mkdir({str(target)!r})"):
            with pytest.raises(ValueError):
                parse(text)
        assert not target.exists()


def schedule(type='LossScheduleHook', end=1.0, loss='loss_kl'):
    return dict(type=type, schedules=[dict(loss=loss, attr='tau', start=4.0, end=end)])


class TestHooks:
    def test_each_of_several_hooks_of_a_type_is_compared(self):
        one, other = schedule(), schedule(loss='loss_prkd')
        before = dict(custom_hooks=[one, other])
        assert changes(before, before) == ([], [])
        (text,) = changes(before, dict(custom_hooks=[schedule(end=2.0), other])).decisive
        assert text.endswith('end was 1.0 and is now 2.0')
        assert changes(before, dict(custom_hooks=[other])).decisive

    @pytest.mark.parametrize('scope', ['mmengine', 'mmrazor', 'prkd_mm'])
    def test_a_scope_hides_no_change(self, scope):
        before = dict(custom_hooks=[schedule()])
        for end, differs in ((1.0, False), (2.0, True)):
            now = dict(custom_hooks=[schedule(f'{scope}.LossScheduleHook', end)])
            assert bool(changes(before, now).decisive) is differs

    def test_a_hook_without_settings_is_compared(self):
        now = dict(custom_hooks=[dict(type='EpochSeedHook')])
        assert changes(dict(custom_hooks=[]), now).decisive

    def test_the_order_of_default_hooks_does_not_matter(self):
        """MMEngine sorts them when it records a config."""
        hooks = dict(second=schedule(), first=schedule(loss='loss_prkd'))
        cfg = Config(dict(default_hooks=hooks))
        with toy.quickly():
            assert changes(parse(cfg.pretty_text), cfg.to_dict()) == ([], [])


def test_the_seed_of_workers_that_the_tool_adds_is_no_change():
    def cfg(**loader):
        return dict(train_dataloader=dict(num_workers=2, **loader))

    seeded = cfg(worker_init_fn=dict(type='seed_worker_by_epoch'))
    assert changes(cfg(), seeded) == changes(seeded, cfg()) == ([], [])
    assert changes(seeded, cfg(worker_init_fn=dict(type='mine'))).decisive
    assert 'worker_init_fn' in seeded['train_dataloader']
