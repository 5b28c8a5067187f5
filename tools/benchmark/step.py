"""Times a step of ATSC and of AEKT through MMEngine, eager in fp32, beside its rivals (CPU or GPU).

python tools/benchmark/step.py --pairs resnet110_resnet32 resnet32x4_resnet8x4 --repeats 5

"ours" is the whole ``train_step``: data preprocessor, one forward of each network, losses, one backward, optimizer. The
bare loop is the same maths without MMEngine. ``profile_step.py`` times ``tools/train.py --fast``.

ATSC's rival is the authors' loop: two optimizers, a second forward and backward of the teacher for its classifier, a
Python loop over the parameters for the penalty. AEKT's rival is MMRazor's ``SingleTeacherDistill`` with ``DKDLoss``;
beside it the student alone, and ours with a ``TeacherCacheHook``. The rivals take turns and the median counts.
"""
import argparse
import tempfile
from pathlib import Path
from types import SimpleNamespace

from measure import add_arguments, block_of, environment, in_ms, median_times, note, peak_memory, prepare, table_line

# The module beside this one must come before torch.
# isort: split

import steps as rivals
from runs import METHODS, RandomBatchedCIFAR100, RandomCIFAR100, split_pair
from steps import Batch, Step
from torch import nn

from mmkd_atsc import cli
from mmkd_atsc.engine.teacher_cache import TeacherCacheHook, record_teachers
from mmkd_atsc.errors.checks import check_choice, check_number

AUGMENT = [dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4), dict(type='mmpretrain.RandomFlip', prob=0.5)]
NAMES = dict(ours='ours', authors="authors' loop", dkd="MMRazor's DKD", bare='bare loop', free='without anchor',
             cached='cached', alone='student alone')
# Numerator and denominator of each ratio.
RATIOS = dict(atsc=[('ours', 'bare'), ('authors', 'ours')],
              aekt=[('ours', 'bare'), ('cached', 'alone'), ('dkd', 'ours')])


def make_steps(method: str, pair: list[str], batch: Batch, folder: Path, brief: bool) -> dict[str, Step]:
    """Ours and its rival; unless ``brief``, also the bare loops."""
    if method == 'atsc':
        made = [rivals.atsc_model(*pair) for _ in range(2 if brief else 4)]
        steps = dict(ours=rivals.engine_step(made[0], batch), authors=rivals.authors_atsc_step(made[1], batch))
        if not brief:
            steps.update(bare=rivals.bare_atsc_step(made[2], batch),
                         free=rivals.bare_atsc_step(made[3], batch, with_anchor=False))
        return steps
    made = [rivals.aekt_model(*pair) for _ in range(1 if brief else 4)]
    steps = dict(ours=rivals.engine_step(made[0], batch), dkd=rivals.dkd_step(*pair, batch))
    if not brief:
        steps.update(bare=rivals.bare_aekt_step(made[1], batch), alone=rivals.student_step(made[2], batch),
                     cached=cached_step(made[3], batch, folder / '_'.join(pair)))
    return steps


def cached_step(model: nn.Module, batch: Batch, path: Path) -> Step:
    """The ``train_step`` that reads the teacher's logits from a file, with its batch from a data set."""
    RandomCIFAR100.num_images = len(batch.labels)
    dataset = RandomBatchedCIFAR100('none', pipeline=AUGMENT, download=False)
    model.to(batch.device)
    for teacher in model.teachers.values():  # of random weights: half precision would not hold its logits
        teacher.model.head.fc.weight.data.zero_()
    record_teachers(model, dataset, str(path), report=lambda line: None)
    model.train()
    hook = TeacherCacheHook(str(path))
    runner = SimpleNamespace(model=model, train_dataloader=SimpleNamespace(dataset=dataset), train_loop=None, epoch=0,
                             max_epochs=1)
    hook.before_train(runner)
    hook.before_train_epoch(runner)

    def next_batch() -> dict:
        data = dataset.__getitems__(list(range(len(dataset))))
        hook.before_train_iter(runner, 0, data)
        return data

    return rivals.engine_step(model, batch, data=next_batch)


def row(pair: str, method: str, steps: dict[str, Step], args: argparse.Namespace, batch: Batch) -> list[str]:
    """A row's cells: milliseconds, memory, ratios."""
    times = median_times(steps, args.repeats, warmup=1 if args.brief else 2, block=block_of(batch.device))
    note('step', method=method, pair=pair, **times)
    rival = next(name for name in ('authors', 'dkd') if name in steps)
    memory = peak_memory(steps['ours'], batch.device) / peak_memory(steps[rival], batch.device)
    ratios = [times[above] / times[below] for above, below in ratios_of(method, steps)]
    return [pair, *in_ms(times).values(), *(f'{ratio:.2f}' for ratio in (memory, *ratios))]


def ratios_of(method: str, steps: dict[str, Step]) -> list[tuple]:
    return [ratio for ratio in RATIOS[method] if steps.keys() >= set(ratio)]


def main(argv: list[str] | None = None) -> None:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--methods', nargs='+', default=list(METHODS))
    parser.add_argument('--pairs', nargs='+', default=['resnet110_resnet32', 'resnet32x4_resnet8x4'])
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--brief', action='store_true', help="only ours and the authors' loop or DKD")
    add_arguments(parser)
    args = parser.parse_args(argv)
    with cli.one_line_errors(), tempfile.TemporaryDirectory() as folder:
        for method in args.methods:
            check_choice('--methods', method, METHODS)
        check_number('--repeats', args.repeats, 1, integer=True)
        pairs = {pair: split_pair(pair) for pair in args.pairs}
        device = prepare(args)
        batch = Batch(args.batch, device)
        print(f'{environment(device)}; batch {args.batch}, fp32, median of {args.repeats} turns of {block_of(device)}')
        for method in args.methods:
            for number, (pair, networks) in enumerate(pairs.items()):
                steps = make_steps(method, networks, batch, Path(folder), args.brief)
                if not number:
                    heads = [f'{method}: pair', *(f'{NAMES[name]}, ms' for name in steps), "memory, ours / rival's",
                             *(f'{above} / {below}' for above, below in ratios_of(method, steps))]
                    print('\n' + table_line(heads) + '\n' + '|---' * len(heads) + '|')
                print(table_line(row(pair, method, steps, args, batch)), flush=True)


if __name__ == '__main__':
    main()
