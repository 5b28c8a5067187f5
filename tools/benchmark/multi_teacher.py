"""What one, two and three teachers cost, as ratios to the sum of the parts (CPU or GPU).

python tools/benchmark/multi_teacher.py --student resnet8x4 --teachers resnet32x4 resnet110x2 wrn_40_2

The parts are measured bare and in the same run: the student with its backward pass; each teacher's forward pass, for
ATSC with its backward pass, the projector, the classifier, the anchor and the optimizer. Ours is the whole
``train_step`` through MMEngine. The rivals take turns and the median counts. Memory is what a step holds at most, in
ratio to the step with one teacher.
"""
import argparse
from typing import Callable, List, Optional

from measure import add_arguments, block_of, environment, in_ms, median_times, peak_memory, prepare

# The module beside this one must come before torch.
# isort: split

import torch
import torch.nn.functional as F
from steps import SGD, Batch, aekt_model, atsc_model, engine_step, stand_in, student_step

from mmkd_atsc import cli
from mmkd_atsc.cifar_networks import CIFAR_NETWORKS
from mmkd_atsc.errors.checks import check_choice, check_number
from mmkd_atsc.models.losses import TeacherAnchorLoss

METHODS = dict(atsc=atsc_model, aekt=aekt_model)


def teacher_part(method: str, student: str, teacher: str, batch: Batch) -> Callable[[], None]:
    """All that a teacher adds to a step, bare."""
    model = stand_in(METHODS[method](student, [teacher]), batch).model
    network = model.teacher
    if method == 'aekt':
        network.eval()
        return torch.no_grad()(lambda: network(batch.images))
    anchor, neck = TeacherAnchorLoss(), model.student.neck
    anchor.bind(network.backbone)
    with torch.no_grad():
        feature = torch.randn_like(model.student.backbone(batch.images)[-1]).requires_grad_()
    optimizer = torch.optim.SGD([*network.parameters(), *neck.parameters()], **SGD)

    def step() -> None:
        seen = network.backbone(batch.images)[-1]
        loss = F.mse_loss(neck((feature, ))[-1], seen) + anchor()
        loss = loss + F.cross_entropy(network.head(network.neck((seen.detach(), ))), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--student', default='resnet8x4')
    parser.add_argument('--teachers', nargs='+', default=['resnet32x4', 'resnet110x2', 'wrn_40_2'])
    parser.add_argument('--methods', nargs='+', default=list(METHODS))
    parser.add_argument('--repeats', type=int, default=3)
    add_arguments(parser)
    args = parser.parse_args(argv)
    with cli.one_line_errors():
        for name in (args.student, *args.teachers):
            check_choice('network', name, CIFAR_NETWORKS)
        for method in args.methods:
            check_choice('--methods', method, METHODS)
        check_number('--repeats', args.repeats, 1, integer=True)
        device = prepare(args)
        batch = Batch(args.batch, device)
        print(f'{environment(device)}; batch {args.batch}, fp32, median of {args.repeats} turns of {block_of(device)}; '
              f'student {args.student}\n')
        print("| method | teachers | step, ms | sum of the parts, ms | ratio | memory to one teacher's |\n"
              '|---|---|---:|---:|---:|---:|')
        for method in args.methods:
            compare(method, args, batch)


def compare(method: str, args: argparse.Namespace, batch: Batch) -> None:
    """Prints the rows of a method."""
    build = METHODS[method]
    counts = range(1, len(args.teachers) + 1)
    steps = {f'{count} teachers': engine_step(build(args.student, args.teachers[:count]), batch) for count in counts}
    steps['student'] = student_step(aekt_model(args.student, args.teachers[:1]), batch)
    for teacher in dict.fromkeys(args.teachers):
        steps[teacher] = teacher_part(method, args.student, teacher, batch)
    times = median_times(steps, args.repeats, warmup=1, block=block_of(batch.device))
    memory = {count: peak_memory(steps[f'{count} teachers'], batch.device) for count in counts}
    for count in counts:
        teachers = args.teachers[:count]
        parts = times['student'] + sum(times[teacher] for teacher in teachers)
        step = times[f'{count} teachers']
        ms = in_ms(dict(step=step, parts=parts))
        print(f'| {method} | {" + ".join(teachers)} | {ms["step"]} | {ms["parts"]} | {step / parts:.2f} '
              f'| {memory[count] / memory[1]:.2f} |', flush=True)


if __name__ == '__main__':
    main()
