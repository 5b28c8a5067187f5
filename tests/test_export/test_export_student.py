import ctypes
import json

import cv2
import mmpretrain
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

import mmkd_atsc.export.student as module
from mmkd_atsc.export import FORMATS, export_student
from mmkd_atsc.export.formats import Deployed, load_onnx
from mmkd_atsc.paths import get_package_config
from tests.conftest import tiny_classifier
from tests.test_export.trained import CLASSES, METHODS, PREPROCESSOR, logits, method_config, pixels, train


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """For each method: the model as trained, where its student went in every format, and the report."""
    def export(method):
        if method not in done:
            folder = tmp_path_factory.mktemp(method)
            config = method_config(method)
            model = train(config, folder / 'epoch_40.pth')
            done[method] = model, folder / 'out', export_student(config, folder / 'epoch_40.pth', folder / 'out',
                                                                 tuple(FORMATS))
        return done[method]

    done = {}
    return export


@pytest.fixture
def aekt(tmp_path):
    """A config, its checkpoint, and the folder to export to."""
    config = method_config('aekt')
    train(config, tmp_path / 'epoch_40.pth')
    return config, tmp_path / 'epoch_40.pth', tmp_path / 'out'


@pytest.mark.parametrize('method', METHODS)
def test_mmpretrain_and_other_runtimes_give_the_logits_for_any_number_of_images(exported, method):
    model, out, report = exported(method)
    student = mmpretrain.get_model(str(out / 'student.py'), str(out / 'student.pth'))
    student.load_state_dict(torch.load(out / 'student.pth', weights_only=True)['state_dict'], strict=True)
    assert report.differences['checkpoint'] <= 1e-6
    for count in (1, 5):
        expected, images = logits(model, pixels(count)), model.data_preprocessor(dict(inputs=pixels(count)))['inputs']
        assert expected.std() > 0.1, 'logits this small would agree with anything'
        torch.testing.assert_close(logits(student, pixels(count)), expected, rtol=0, atol=1e-6)
        for name, form in FORMATS.items():
            torch.testing.assert_close(form.load(out / form.file)(images), expected, rtol=0, atol=1e-4)
            assert 0 <= report.differences[name] <= 1e-4


@pytest.mark.parametrize('method', METHODS)
def test_nothing_of_the_training_is_inside(exported, method):
    model, out, report = exported(method)
    content = torch.load(out / 'student.pth', weights_only=True)
    assert sorted(content) == ['meta', 'state_dict']
    assert content['meta'] == dict(content['meta'], source='epoch_40.pth', dataset_meta=dict(classes=list(CLASSES)))
    assert {key.split('.')[0] for key in content['state_dict']} <= {'backbone', 'neck', 'head'}
    student = MODELS.build(Config.fromfile(out / 'student.py').model)
    assert content['state_dict'].keys() == student.state_dict().keys()
    count = sum(value.numel() for value in student.parameters())
    assert report.parameters == count and report.trained_parameters == sum(v.numel() for v in model.parameters())
    assert sorted(path.name for path in out.iterdir()) == [
        'student.onnx', 'student.pt2', 'student.pth', 'student.py', 'student.torchscript.pt']


def test_the_inferencer_sees_in_a_file_what_training_saw_in_the_data(exported, tmp_path):
    model, out, _ = exported('atsc')
    rgb = pixels(1)[0].permute(1, 2, 0).numpy().astype(np.uint8)
    cv2.imwrite(str(tmp_path / 'image.png'), rgb[..., ::-1])
    inferencer = mmpretrain.ImageClassificationInferencer(str(out / 'student.py'), pretrained=str(out / 'student.pth'))
    expected = logits(model, pixels(1)).softmax(1)[0]
    for image in (str(tmp_path / 'image.png'), np.ascontiguousarray(rgb[..., ::-1])):
        result, = inferencer(image)
        np.testing.assert_allclose(result['pred_scores'], expected, atol=1e-6)
        assert result['pred_class'] == CLASSES[expected.argmax()]


def test_onnx_says_what_it_takes_and_takes_pixels_with_preprocessing(exported, aekt):
    import onnxruntime

    def notes(path):
        return {name: json.loads(text) if name != 'channels' else text for name, text in
                onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map.items()}

    assert notes(exported('aekt')[1] / 'student.onnx') == dict(
        channels='RGB', classes=list(CLASSES), mean=PREPROCESSOR['mean'], std=PREPROCESSOR['std'])
    config, checkpoint, out = aekt
    config.data_preprocessor.to_rgb = True  # the network's own order is the reverse of the data set's
    model = train(config, checkpoint)
    export_student(config, checkpoint, out, ('onnx', ), with_preprocessing=True)
    answer = load_onnx(out / 'student.onnx')(pixels(4).flip(1).float())
    torch.testing.assert_close(answer, logits(model, pixels(4)), rtol=0, atol=1e-4)
    assert notes(out / 'student.onnx') == dict(channels='BGR', classes=list(CLASSES), mean=None, std=None)


def test_half_precision_halves_the_file_and_keeps_the_vectors_exact(tmp_path):
    config = method_config('teacher')
    model = train(config, tmp_path / 'a.pth')
    report = export_student(config, tmp_path / 'a.pth', tmp_path / 'half', half=True)
    weights = torch.load(tmp_path / 'half' / 'student.pth', weights_only=True)['state_dict']
    for key, value in model.state_dict().items():
        if value.is_floating_point():
            assert weights[key].dtype == (torch.float16 if value.dim() > 1 else torch.float32)
    student = mmpretrain.get_model(str(report.config), str(report.files['checkpoint']))
    expected = logits(model, pixels(4))
    assert 0 < (logits(student, pixels(4)) - expected).abs().max() <= 2e-2 * expected.abs().max()


def test_an_export_that_predicts_otherwise_is_refused_and_leaves_nothing(aekt, monkeypatch):
    config, checkpoint, out = aekt
    genuine = module.student_weights

    def one_weight_off(*args):
        weights = genuine(*args)
        weights['head.fc.bias'][3] += 1e-3
        return weights

    monkeypatch.setattr(module, 'student_weights', one_weight_off)
    with pytest.raises(ValueError, match='student.pth does not predict what the checkpoint does: .* differ by 0.001'):
        export_student(config, checkpoint, out)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize('forward, formats, error, written', [
    (lambda network, images: network(images, mode='tensor').view(3, 10), ('torchscript', ),
     'student.torchscript.pt: the network, as this format sees it, takes 3 images at a time and no other number', []),
    (lambda network, images: torch.nn.functional.adaptive_avg_pool2d(network.backbone(images)[-1], (10, 1))[:, 0, :, 0],
     ('onnx', 'torchscript'), 'student.onnx: PyTorch cannot write this network in this format: ', ['torchscript']),
])
def test_a_format_that_fails_keeps_no_other_from_being_written(
        aekt, monkeypatch, capfd, forward, formats, error, written):
    monkeypatch.setattr(module, 'logits_of', lambda network, images: forward(network, images))
    monkeypatch.setattr(Deployed, 'forward', lambda self, images: forward(self.network, images))
    written = ['student.pth', *(FORMATS[name].file for name in written)]
    with pytest.raises(ValueError, match=f'^{error}.*; written to .*out: student.py, {", ".join(written)}$'):
        export_student(*aekt, formats)
    assert sorted(path.name for path in aekt[2].iterdir()) == sorted(['student.py', *written])
    ctypes.CDLL(None).fflush(None)  # what C++ printed
    assert 'graph' not in capfd.readouterr().out


def test_an_atsc_student_teaches_the_next(exported):
    first, out, _ = exported('atsc')
    config = method_config('atsc')
    config.model.teacher = dict(cfg_path=str(out / 'student.py'))
    config.model.architecture.neck = dict(type='mmkd_atsc.FeatureProjector')
    model = MODELS.build(dict(config.model.to_dict(), teacher_ckpt=str(out / 'student.pth'),
                              data_preprocessor=config.data_preprocessor))
    torch.testing.assert_close(model.teacher.eval()(pixels(2).float()), first.student(pixels(2).float()))


def test_several_teachers_leave_their_classifiers(tmp_path):
    config = method_config('atsc')
    config.model.teacher = dict(wide=tiny_classifier(32), slim=tiny_classifier(8))
    config.model.architecture.head.aggregate = 'confidence'
    model = train(config, tmp_path / 'two.pth')
    report = export_student(config, tmp_path / 'two.pth', tmp_path / 'out', ('onnx', 'torchscript'))
    student = mmpretrain.get_model(str(report.config), str(report.files['checkpoint']))
    torch.testing.assert_close(logits(student, pixels(5)), logits(model, pixels(5)), rtol=0, atol=1e-6)
    exported = Config.fromfile(report.config).model
    assert set(exported.head.classifiers) == {'wide', 'slim'}
    assert {name: neck.out_channels for name, neck in exported.neck.projectors.items()} == dict(wide=64, slim=16)


def test_a_swin_takes_any_number_of_images_too(tmp_path):
    arch = dict(embed_dims=8, depths=[1, 2], num_heads=[1, 2])  # the second block of a stage shifts its windows
    config = method_config('kd', dict(type='mmpretrain.SwinTransformer', arch=arch, img_size=56, out_indices=(1, )))
    config.model.architecture.head.in_channels = 16
    model = train(config, tmp_path / 'swin.pth')
    report = export_student(config, tmp_path / 'swin.pth', tmp_path / 'out', ('onnx', ), image_size=56)
    answer = load_onnx(report.files['onnx'])(model.data_preprocessor(dict(inputs=pixels(5, 56)))['inputs'])
    torch.testing.assert_close(answer, logits(model, pixels(5, 56)), rtol=0, atol=1e-4)


def test_a_network_of_one_channel_reads_files_too(tmp_path):
    lenet = get_package_config('mmpretrain::lenet/lenet5_mnist.py')
    model = train(lenet, tmp_path / 'lenet.pth')
    report = export_student(lenet, tmp_path / 'lenet.pth', tmp_path / 'out', ('onnx', ))
    import onnxruntime
    notes = onnxruntime.InferenceSession(str(report.files['onnx'])).get_modelmeta().custom_metadata_map
    assert notes['channels'] == 'grey' and json.loads(notes['mean']) == [33.46]
    files, grey = [], pixels(2, 28)[:, 0].numpy().astype(np.uint8)
    for image in grey:
        files.append(str(tmp_path / f'{len(files)}.png'))
        cv2.imwrite(files[-1], image)
    inferencer = mmpretrain.ImageClassificationInferencer(str(report.config), str(report.files['checkpoint']))
    results = inferencer(files, batch_size=2)  # MMPretrain's LeNet takes no single image
    expected = logits(model, torch.from_numpy(np.stack([cv2.resize(image, (32, 32)) for image in grey]))[:, None])
    np.testing.assert_allclose([result['pred_scores'] for result in results], expected.softmax(1), atol=1e-6)


def test_no_weights_are_fetched(aekt, monkeypatch):
    config, checkpoint, out = aekt
    config.model.architecture.backbone.init_cfg = dict(type='Pretrained', checkpoint='https://nowhere.invalid/a.pth')
    config.model.teacher = dict(cfg_path='mmpretrain::resnet/resnet18_8xb16_cifar10.py', pretrained=True)
    train(config, checkpoint)

    for fetch in ('download_url_to_file', 'load_state_dict_from_url'):
        monkeypatch.setattr(torch.hub, fetch, lambda *args, **kwargs: pytest.fail(f'would fetch {args}'))
    assert export_student(config, checkpoint, out).differences['checkpoint'] <= 1e-6
