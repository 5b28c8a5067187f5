"""A training starts from what it was told to, or says why not before the first step."""
import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from mmkd_atsc.runtime.resume import StrictResumeHook, check_start
from tests.conftest import tool


def a_config(tmp_path, **settings):
    return Config(dict(work_dir=str(tmp_path), **settings))


def save_training(path):
    weights = {'weight': torch.ones(1)}
    torch.save(dict(state_dict=weights, meta=dict(epoch=1, iter=4), optimizer={}, message_hub={}), path)
    return str(path)


def test_weights_alone_are_no_training(tmp_path):
    path = str(tmp_path / 'bare.pth')
    torch.save(dict(state_dict={'weight': torch.ones(1)}, meta={}), path)
    check_start(a_config(tmp_path, load_from=path))
    with pytest.raises(ValueError, match=r'no training to resume \(no optimizer, message_hub\).*load_from='):
        check_start(a_config(tmp_path, load_from=path, resume=True))


@pytest.mark.parametrize('asked, own, said', [
    (None, None, ''), (None, 7, ''), (7, 7, ''), (None, 0, 'the seed stays 7'),
    (0, 0, '--seed 0: .*a.pth is of a training with seed 7')])
def test_another_seed_than_the_training_began_with_is_not_ignored_silently(tmp_path, capsys, asked, own, said):
    content = torch.load(save_training(tmp_path / 'a.pth'), weights_only=True)
    content['meta']['seed'] = 7
    torch.save(content, tmp_path / 'a.pth')
    config = a_config(tmp_path, load_from=str(tmp_path / 'a.pth'), resume=True,
                      randomness=dict(diff_rank_seed=True, seed=own))
    if asked == 0:
        with pytest.raises(ValueError, match=said):
            check_start(config, asked)
        return
    check_start(config, asked)
    assert config.randomness == dict(diff_rank_seed=True, seed=7)
    printed = capsys.readouterr().out
    assert printed.startswith(said) and printed.count('\n') == bool(said)


def optimizer_of(model, apart=()):
    """The model's optimizer, the parameters ``apart`` in a group of their own."""
    groups = [[value for key, value in model.named_parameters() if (key in apart) is alone] for alone in (False, True)]
    return OptimWrapper(torch.optim.SGD([dict(params=group) for group in groups if group], lr=0.1))


def toy_runner(resume):
    model = nn.Linear(2, 1)
    return SimpleNamespace(model=model, _resume=resume, _load_from='a.pth', work_dir='w', rank=1,
                           optim_wrapper=optimizer_of(model), logger=logging.getLogger('toy'))


def test_an_optimizer_with_other_parameter_groups_is_refused():
    """Torch refuses it too, without a word on what to do."""
    model = nn.Linear(2, 1)
    checkpoint = dict(state_dict=model.state_dict(), optimizer=optimizer_of(model, ['bias']).state_dict())
    with pytest.raises(ValueError, match='a.pth: this training cannot be resumed: its optimizer has 2 groups of 2 '
                                         'parameters, the config makes 1 of 2; .*teacher_lr_mult'):
        StrictResumeHook().after_load_checkpoint(toy_runner(True), checkpoint)
    StrictResumeHook().after_load_checkpoint(toy_runner(False), checkpoint)


@pytest.mark.parametrize('change, words', [
    (dict(bias=None), r'1 missing \(bias\)'), (dict(weight=torch.ones(2, 2)), r'weight \(2, 2\) for \(1, 2\)')])
def test_a_run_resumes_only_from_what_fits_and_fine_tuning_says_what_did_not(change, words, caplog):
    weights = {**nn.Linear(2, 1).state_dict(), **change}
    checkpoint = dict(state_dict={key: value for key, value in weights.items() if value is not None})
    with pytest.raises(ValueError, match='a.pth: this training cannot be resumed, the checkpoint does not fit: .*'
                                         + words):
        StrictResumeHook().after_load_checkpoint(toy_runner(True), checkpoint)
    StrictResumeHook().after_load_checkpoint(toy_runner(False), checkpoint)
    assert 'a.pth fits in part' in caplog.text
    with pytest.raises(ValueError, match='nothing in it fits the model'):
        StrictResumeHook().after_load_checkpoint(toy_runner(False), dict(state_dict={'other': torch.ones(1)}))


@pytest.mark.parametrize('epoch, said', [(1, False), (2, True)])
def test_a_run_that_is_already_done_says_so(epoch, said, caplog):
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop)
    loop._epoch, loop._max_epochs = epoch, 2
    runner = toy_runner(True)
    runner.train_loop = loop
    with caplog.at_level(logging.INFO):
        StrictResumeHook().before_train(runner)
    assert ('nothing is left to train' in caplog.text) is said


@pytest.mark.parametrize('saved', [True, False])
def test_resume_on_a_first_start_leaves_the_start_that_the_config_gives(tmp_path, saved):
    config = a_config(tmp_path, load_from='pretrained.pth', optim_wrapper=dict())
    if saved:
        (tmp_path / 'last_checkpoint').write_text(save_training(tmp_path / 'epoch_1.pth'))
    tool('train.py')['merge_arguments'](config, tool('train.py')['parse_args'](['a.py', '--resume']))
    assert (config.resume, config.load_from) == ((True, None) if saved else (False, 'pretrained.pth'))
