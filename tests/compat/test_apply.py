import pytest

from prkd_mm import compat

APPLIED = compat.apply()  # the first call was in `import prkd_mm`


def test_second_call_does_nothing(monkeypatch):
    def fail():
        raise AssertionError('a patch ran again')

    monkeypatch.setattr(compat, '_PATCHES', (fail,))
    assert compat.apply() == APPLIED


@pytest.mark.parametrize('patch', compat._PATCHES, ids=lambda patch: patch.__name__)
def test_a_patched_thing_counts_as_working(patch):
    assert patch() is False


def test_only_the_patches_that_were_needed_are_named_with_their_reason(monkeypatch):
    def needed():
        """Reason of the first.

        Details.
        """
        return True

    def not_needed():
        """Reason of the second."""
        return False

    monkeypatch.setattr(compat, '_applied', None)
    monkeypatch.setattr(compat, '_PATCHES', (needed, not_needed))
    assert compat.apply() == ('needed',)
    assert compat.describe() == {'needed': 'Reason of the first.'}


def test_every_patch_has_a_reason():
    assert all(patch.__doc__.partition('\n')[0].endswith('.') for patch in compat._PATCHES)
