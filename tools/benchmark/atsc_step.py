"""How long an ATSC step takes through MMEngine, beside a plain transcription of the authors' loop (CPU or GPU).

python tools/benchmark/atsc_step.py --pairs resnet110_resnet32 resnet32x4_resnet8x4 --repeats 5

Ours is the whole ``train_step``: data preprocessor, one forward of each network, the losses, one backward, the
optimizer. The authors' loop has the same networks, two optimizers, a second forward and backward of the teacher for its
classifier, and a Python loop over the parameters for the penalty; its images come normalised. The rivals take turns and
the median counts.
"""
import argparse
import os
import platform
import statistics
import time
from typing import Callable, Dict, List, Optional

import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

import mmkd_atsc  # noqa: F401  makes mmrazor importable
from mmkd_atsc import cli
from mmkd_atsc.checks import check_number
from mmkd_atsc.networks import CIFAR_NETWORKS, classifier

SGD = dict(lr=0.05, momentum=0.9, weight_decay=5e-4)


def split_pair(pair: str) -> List[str]:
    """Teacher and student of ``<teacher>_<student>``, both names of the table.

    >>> split_pair('wrn_40_2_resnet8x4')
    ['wrn_40_2', 'resnet8x4']
    """
    words = pair.split('_')
    for cut in range(1, len(words)):
        teacher, student = '_'.join(words[:cut]), '_'.join(words[cut:])
        if teacher in CIFAR_NETWORKS and student in CIFAR_NETWORKS:
            return [teacher, student]
    raise ValueError(f'{pair}: not <teacher>_<student> of {", ".join(CIFAR_NETWORKS)}')


def build_ours(pair: str) -> torch.nn.Module:
    """The algorithm as the pair's config has it, with a teacher of random weights."""
    teacher, student = split_pair(pair)
    network = classifier(student)
    network['neck'] = dict(type='mmkd_atsc.FeatureProjector', in_channels=CIFAR_NETWORKS[student].feature_shape[0],
                           out_channels=CIFAR_NETWORKS[teacher].feature_shape[0])
    network['head'] = dict(type='mmkd_atsc.SharedClassifierHead')
    model = MODELS.build(dict(
        type='mmkd_atsc.AdaptiveTeacherDistill', architecture=network, teacher=classifier(teacher),
        allow_random_teacher=True, data_preprocessor=dict(mean=[127.5] * 3, std=[64.0] * 3)))
    model.student.init_weights()
    return model.train()


def our_step(pair: str, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    model = build_ours(pair).to(images.device)
    samples = [DataSample().set_gt_label(int(label)) for label in labels]
    optim_wrapper = build_optim_wrapper(model, dict(optimizer=dict(type='SGD', **SGD)))
    return lambda: model.train_step(dict(inputs=images, data_samples=samples), optim_wrapper)


def authors_step(pair: str, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    """The published loop's work, step by step, on networks of the same kind."""
    model = build_ours(pair).to(images.device)
    student, projector, teacher = model.student.backbone, model.student.neck, model.teacher
    anchors = {name: p.detach().clone() for name, p in teacher.named_parameters()}
    first = torch.optim.SGD([p for part in (student, projector, teacher.backbone) for p in part.parameters()], **SGD)
    second = torch.optim.SGD(teacher.head.parameters(), **SGD)
    images = (images.float() - 127.5) / 64

    def step() -> None:
        loss = F.mse_loss(projector(student(images))[-1], teacher.backbone(images)[-1])
        for name, parameter in teacher.named_parameters():
            if parameter.dim() > 1:
                loss = loss + torch.sum((parameter - anchors[name]) ** 2)
        first.zero_grad()
        loss.backward()
        first.step()
        loss_of_classifier = F.cross_entropy(teacher(images), labels)
        second.zero_grad()
        loss_of_classifier.backward()
        second.step()
        return loss.item(), loss_of_classifier.item()  # it logs both, every step

    return step


def median_times(steps: Dict[str, Callable[[], None]], repeats: int, device: torch.device) -> Dict[str, float]:
    """Seconds a step, the median over ``repeats`` turns after one of warm-up."""
    times: Dict[str, list] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            if device.type == 'cuda':
                torch.cuda.synchronize()
            start = time.perf_counter()
            step()
            if device.type == 'cuda':
                torch.cuda.synchronize()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--pairs', nargs='+', default=['resnet110_resnet32', 'resnet32x4_resnet8x4'])
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--threads', type=int, help="default: torch's")
    args = parser.parse_args(argv)
    with cli.one_line_errors():
        check_number('--batch', args.batch, 2, integer=True)
        check_number('--repeats', args.repeats, 1, integer=True)
        if args.threads is not None:
            torch.set_num_threads(check_number('--threads', args.threads, 1, integer=True))
        MMLogger.get_instance('benchmark', log_level='WARNING')  # else a line for each parameter that is initialised
        device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (args.batch, 3, 32, 32), generator=generator, dtype=torch.uint8).to(device)
        labels = torch.randint(100, (args.batch, ), generator=generator).to(device)
        name = torch.cuda.get_device_name() if device.type == 'cuda' else platform.processor() or platform.machine()
        print(f'torch {torch.__version__}, {name}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, '
              f'batch {args.batch}, fp32, median of {args.repeats}\n')
        print("| pair | ours, ms | authors' loop, ms | ratio |\n|---|---:|---:|---:|")
        for pair in args.pairs:
            steps = dict(ours=our_step(pair, images, labels), theirs=authors_step(pair, images, labels))
            times = median_times(steps, args.repeats, device)
            print(f'| {pair} | {1e3 * times["ours"]:.0f} | {1e3 * times["theirs"]:.0f} '
                  f'| {times["theirs"] / times["ours"]:.2f} |', flush=True)


if __name__ == '__main__':
    main()
