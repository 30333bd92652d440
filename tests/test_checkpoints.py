import os
import shutil
from argparse import Namespace

import pytest
import torch
import toy
from torch import nn

from prkd_mm.checkpoints import (
    check_even_spacing,
    describe,
    load_strictly,
    plain_state_dict,
    read,
    resolve,
    write_atomically,
)


@pytest.mark.parametrize(
    'used, is_even',
    [
        ((1, 2, 3, 5), False),
        ((2, 3, 6), False),
        ((4, 8, 10, 11), False),
        ((1, 2, 4, 5), False),
        ((2, 4, 6), True),  # saved every second epoch
        ((2, 4, 5), True),  # and at the end
        ((30, 40, 50), True),
        ((3, 5), True),
        ((5,), True),
    ],
)
def test_checkpoints_that_are_not_evenly_spaced_are_refused(used, is_even):
    if is_even:
        check_even_spacing('a', used, 'do something')
        return
    epochs = ', '.join(map(str, used))
    words = f"in 'a' are of the epochs {epochs}, which are not evenly spaced.*; do something"
    with pytest.raises(FileNotFoundError, match=words):
        check_even_spacing('a', reversed(used), 'do something')


class TestResolve:
    def test_a_file_resolves_to_itself(self, tmp_path):
        path = tmp_path / 'a.pth'
        path.touch()
        assert resolve(str(path)) == str(path)

    def test_a_url_is_passed_to_mmengine(self):
        assert resolve('https://example.com/a.pth').endswith('a.pth')

    def test_a_missing_file_is_an_error(self, tmp_path):
        path = str(tmp_path / 'none.pth')
        with pytest.raises(FileNotFoundError, match=f'no checkpoint {path!r}'):
            resolve(path)

    def test_a_work_dir_without_checkpoints_is_an_error(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=f'work dir.*{tmp_path}'):
            resolve(str(tmp_path))

    @pytest.mark.parametrize('moved', [False, True])
    def test_a_work_dir_resolves_to_its_latest_checkpoint(self, tmp_path, moved):
        toy.train(toy.config(toy.classifier(), tmp_path / 'run'))
        folder = tmp_path / 'run'
        if moved:
            folder = shutil.move(folder, tmp_path / 'elsewhere')
        assert resolve(str(folder)) == str(folder / 'epoch_2.pth')
        assert read(str(folder))['meta']['epoch'] == 2

    def test_a_work_dir_whose_latest_checkpoint_is_missing_is_an_error(self, tmp_path):
        (tmp_path / 'last_checkpoint').write_text('/gone/epoch_9.pth')
        with pytest.raises(FileNotFoundError):
            resolve(str(tmp_path))


class TestPlainStateDict:
    NET = {'backbone.weight': torch.ones(1), 'head.bias': torch.zeros(2)}

    @pytest.mark.parametrize('parallel', ['', 'module.'])
    @pytest.mark.parametrize('others', [[], ['teacher.head.bias', 'distiller.connector.weight']])
    def test_the_student_of_an_algorithm_is_extracted(self, parallel, others):
        state = {f'{parallel}architecture.{key}': value for key, value in self.NET.items()}
        state.update({parallel + key: torch.ones(3) for key in others})
        assert plain_state_dict(dict(state_dict=state)) == (self.NET, True)

    @pytest.mark.parametrize('parallel', ['', 'module.'])
    def test_a_net_alone_is_returned_unchanged(self, parallel):
        state = {parallel + key: value for key, value in self.NET.items()}
        assert plain_state_dict(dict(state_dict=state)) == (self.NET, False)
        assert plain_state_dict(state) == (self.NET, False)

    @pytest.mark.parametrize('parallel', ['', 'module.'])
    def test_a_net_saved_as_model_is_extracted(self, parallel):
        state = {parallel + key: value for key, value in self.NET.items()}
        assert plain_state_dict(dict(model=state, epoch=3)) == (self.NET, False)
        both = dict(state_dict=state, model=dict(other=torch.ones(1)))
        assert plain_state_dict(both) == (self.NET, False)


class TestLoadStrictly:
    def test_all_weights_are_loaded(self):
        one, two = nn.Linear(2, 3), nn.Linear(2, 3)
        load_strictly(one, two.state_dict(), 'x')
        toy.assert_same(one.state_dict(), two.state_dict())

    @pytest.mark.parametrize(
        'change, words',
        [
            (dict(bias=None), ['1 missing: bias']),
            (dict(foo=torch.ones(1)), ['1 unexpected: foo']),
            (
                dict(weight=torch.ones(9, 2)),
                ['1 with a different shape: weight: (9, 2) in the file, (3, 2) in the model'],
            ),
            (
                dict(bias=None, foo=torch.ones(1), weight=torch.ones(1)),
                ['1 missing', '1 unexpected', '1 with a different shape'],
            ),
        ],
        ids=lambda x: str(list(x)),
    )
    def test_the_error_lists_the_differences_and_the_net_is_unchanged(self, change, words):
        net = nn.Linear(2, 3)
        before = {k: v.clone() for k, v in net.state_dict().items()}
        state = {**nn.Linear(2, 3).state_dict(), **change}
        state = {k: v for k, v in state.items() if v is not None}
        with pytest.raises(ValueError) as error:
            load_strictly(net, state, "The file 'x.pth'")
        for part in words + ["The file 'x.pth' does not fit", 'architecture']:
            assert part in str(error.value)
        toy.assert_same(net.state_dict(), before)

    def test_the_error_lists_the_first_of_many_names(self):
        net = nn.Sequential(*(nn.Linear(1, 1) for _ in range(9)))
        with pytest.raises(
            ValueError,
            match=r'18 missing: 0.weight, 0.bias, '
            '1.weight, 1.bias, 2.weight, ...\n',
        ):
            load_strictly(net, {}, 'x')

    @pytest.mark.parametrize('prefix', ['model.', 'student.net.'])
    def test_the_error_names_a_prefix_that_all_names_have(self, prefix):
        net = nn.Linear(2, 3)
        state = {prefix + key: value for key, value in net.state_dict().items()}
        with pytest.raises(ValueError, match=f"after '{prefix}'.*removeprefix.'{prefix}'"):
            load_strictly(net, dict(state, loss=torch.ones(1)), 'x')
        del state[f'{prefix}bias']
        with pytest.raises(ValueError, match='different architecture'):
            load_strictly(net, state, 'x')


class TestWriteAtomically:
    def test_a_file_is_written_and_replaced(self, tmp_path):
        path = tmp_path / 'a.pth'
        for value in (1, 2):
            write_atomically(dict(value=value), path)
            assert torch.load(path) == dict(value=value)
        assert os.listdir(tmp_path) == ['a.pth']

    @pytest.mark.parametrize('fails_in', ['save', 'replace'])
    def test_a_failed_write_leaves_the_old_file(self, tmp_path, monkeypatch, fails_in):

        def fail(*args):
            if fails_in == 'save':
                args[1].write(b'half of')
            raise OSError('disk full')

        (tmp_path / 'a.pth').write_bytes(b'old')
        monkeypatch.setattr(torch if fails_in == 'save' else os, fails_in, fail)
        with pytest.raises(OSError, match='disk full'):
            write_atomically(dict(a=1), tmp_path / 'a.pth')
        assert (tmp_path / 'a.pth').read_bytes() == b'old'
        assert os.listdir(tmp_path) == ['a.pth']


@pytest.mark.parametrize(
    'checkpoint, words',
    [
        (
            dict(meta=dict(tail_average=[8, 9, 10]), state_dict=dict(a=1)),
            'mean of the students of epochs 8 to 10',
        ),
        (
            dict(meta=dict(epoch=7), state_dict={'architecture.a': 1}),
            'weights of the student after epoch 7',
        ),
        (dict(meta=dict(epoch=7), state_dict=dict(a=1)), 'weights of the net after epoch 7'),
        (dict(a=1), 'weights of the net'),
    ],
    ids=lambda x: x if isinstance(x, str) else '',
)
def test_the_description_names_weights_and_epochs(checkpoint, words):
    assert describe(checkpoint) == words


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


class TestRead:
    @pytest.mark.parametrize('zipped', [True, False])
    def test_a_payload_is_refused_and_does_not_run(self, tmp_path, zipped):
        path, target = tmp_path / 'bad.pth', tmp_path / 'made'
        torch.save(
            dict(state_dict={}, extra=Payload(target)), path, _use_new_zipfile_serialization=zipped
        )
        with pytest.raises(ValueError, match=f"'{path}' was refused.*could run code.*mkdir"):
            read(str(path))
        assert not target.exists()

    def test_options_of_a_training_script_are_plain_data(self, tmp_path):
        """As timm's and torchvision's scripts save them; in a process that has read no other."""
        state = nn.Linear(2, 3).state_dict()
        torch.save(dict(model=state, args=Namespace(lr=0.1)), tmp_path / 'net.pth')
        allowed = torch.serialization.get_safe_globals()
        torch.serialization.clear_safe_globals()
        try:
            checkpoint = read(str(tmp_path / 'net.pth'))
        finally:
            torch.serialization.add_safe_globals(allowed)
        toy.assert_same(plain_state_dict(checkpoint)[0], dict(state))

    def test_a_whole_module_is_refused(self, tmp_path):
        torch.save(nn.Linear(2, 2), tmp_path / 'net.pth')
        with pytest.raises(ValueError, match='was refused.*Linear'):
            read(str(tmp_path / 'net.pth'))

    def test_the_users_own_file_can_be_trusted(self, tmp_path, monkeypatch):
        torch.save(dict(state_dict={}, extra=Payload(tmp_path / 'made')), tmp_path / 'own.pth')
        monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
        assert read(str(tmp_path / 'own.pth'))['state_dict'] == {}
        assert (tmp_path / 'made').exists()

    @pytest.mark.parametrize('content', [b'', b'some text', b'{"a": 1}', b'PK\x03\x04' + bytes(99)])
    def test_a_file_that_is_no_checkpoint_is_an_error(self, tmp_path, content):
        (tmp_path / 'a.pth').write_bytes(content)
        with pytest.raises(ValueError, match="a.pth' .*damaged, cut short or not a checkpoint"):
            read(str(tmp_path / 'a.pth'))

    @pytest.mark.parametrize('share', [0.01, 0.5, 0.99])
    def test_a_truncated_file_is_an_error(self, tmp_path, share):
        path = tmp_path / 'a.pth'
        torch.save(dict(state_dict=nn.Linear(99, 99).state_dict()), path)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ValueError, match='damaged, cut short'):
            read(str(path))

    @pytest.mark.parametrize('error', [MemoryError, torch.cuda.OutOfMemoryError])
    def test_a_file_is_not_called_damaged_if_the_memory_is_full(self, tmp_path, monkeypatch, error):
        def fail(*args, **kwargs):
            raise error

        torch.save(dict(state_dict={}), tmp_path / 'a.pth')
        monkeypatch.setattr(torch, 'load', fail)
        with pytest.raises(error):
            read(str(tmp_path / 'a.pth'))

    def test_a_list_is_an_error(self, tmp_path):
        torch.save([1, 2], tmp_path / 'a.pth')
        with pytest.raises(ValueError, match='holds a list, not a dict'):
            read(str(tmp_path / 'a.pth'))
