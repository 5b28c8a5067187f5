"""Agreement of student and teacher: the numbers by hand, and each network with its own normalisation."""
import csv

import pytest
import torch

from analysis.agreement import Answers, percent
from tests.conftest import tool
from tests.test_export.trained import PREPROCESSOR, method_config, train


def test_rates_by_hand():
    """Class 2 has no image; the student errs once as the teacher, once otherwise, once alone."""
    answers = Answers(torch.tensor([0, 0, 0, 1, 3]), dict(student=torch.tensor([0, 1, 3, 1, 0]),
                                                          teacher=torch.tensor([0, 1, 1, 3, 3])), 4)
    assert percent(answers.hits('student')) == percent(answers.hits('teacher')) == pytest.approx(40.0)
    assert answers.outcomes('teacher') == pytest.approx({
        'agreement': 40, 'both right': 20, 'only student': 20, 'only teacher': 20, 'same mistake': 20,
        'different mistakes': 20})
    by_class = answers.by_class(answers.hits('student'))
    assert by_class.isnan().tolist() == [False, False, True, False]
    assert by_class[[0, 1, 3]].tolist() == pytest.approx([100 / 3, 100, 0])


@pytest.mark.parametrize('own', [None, dict(type='mmpretrain.ClsDataPreprocessor', mean=[30.] * 3, std=[9.] * 3)])
def test_each_network_sees_the_images_as_it_was_trained_on(tmp_path, capsys, own):
    config = method_config('kd')
    if own:
        config.model.teacher.data_preprocessor = own
    config.test_dataloader.dataset.train_images = 1700  # what is left is 97 images
    config.dump(tmp_path / 'config.py')
    checkpoint = str(tmp_path / 'epoch_40.pth')
    trained = train(config, checkpoint)
    parts = tool('analysis/agreement.py')
    _, data = parts['build'](config, '', checkpoint)
    pixels = torch.stack([image for batch in data for image in batch['inputs']]).float()
    labels = torch.cat([sample.gt_label for batch in data for sample in batch['data_samples']])
    answers = []
    with torch.no_grad():
        teacher = trained.teachers.teacher.model
        for network, how in ((trained.architecture, PREPROCESSOR), (teacher, own or PREPROCESSOR)):
            mean, std = (torch.tensor(how[name]).view(3, 1, 1) for name in ('mean', 'std'))
            logits = network((pixels - mean) / std, mode='tensor')
            network.head.fc.bias -= logits.mean(0)  # else all images get one answer, however they are normalised
            answers.append((logits - logits.mean(0)).argmax(1))
    torch.save(dict(state_dict=trained.state_dict()), checkpoint)
    parts['main']([str(tmp_path / 'config.py'), checkpoint, '--out', str(tmp_path)])
    printed = capsys.readouterr().out
    assert min(len(answer.unique()) for answer in answers) > 2
    student, teacher = (percent(answer == labels) for answer in answers)
    assert f'97 images: student {student:.2f}%, teacher {teacher:.2f}%' in printed
    assert f'| teacher | {percent(answers[0] == answers[1]):.2f} |' in printed
    with (tmp_path / 'agreement_classes.csv').open() as file:
        assert sum(int(row['images']) for row in csv.DictReader(file)) == 97
