"""Measures a deployed student beside its teachers: parameters, FLOPs, latency of one image, throughput of a batch.

python tools/benchmark/deploy.py configs/atsc/resnet110_resnet32_cifar100.py --batch 64 --out work_dirs/deploy

Times are medians with random weights, in PyTorch (on the GPU if there is one) and in onnxruntime where it is installed.
A student that shares its teachers' classifiers (ATSC, SimKD) has a row for its encoder alone. A multiply and its add
count as one FLOP, as in the papers. --out writes DIR/deploy.md and DIR/deploy.csv.
"""
import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from measure import environment, median_times

# The module beside this one must come before torch.
# isort: split

import torch
from mmengine.analysis import get_model_complexity_info
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

import mmkd_atsc  # noqa: F401
from mmkd_atsc import cli
from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.export.config import build_training, student_config, student_model
from mmkd_atsc.export.formats import Deployed, check_packages, write
from mmkd_atsc.export.images import deployed_image_size, height_x_width
from mmkd_atsc.models.binding import image_channels

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tools/
from analysis.tables import markdown, write_csv

ENCODER = "student's encoder alone"
COLUMNS = ('network', 'parameters', 'FLOPs, M', 'torch, ms', 'torch, images/s', 'onnxruntime, ms',
           'onnxruntime, images/s')
FORMS = (str, '{:,}'.format, '{:,.1f}'.format, '{:.2f}'.format, '{:,.0f}'.format, '{:.2f}'.format, '{:,.0f}'.format)


class EncoderAlone(nn.Module):
    """A student without its projector and classifier."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone(images)[-1]


def build_networks(config: Config, size: tuple[int, int] | None = None) -> tuple[
        dict[str, nn.Module], tuple[int, int]]:
    """The deployed student, its encoder if it shares a classifier, and the teachers, by name; the images' size."""
    training = build_training(config)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        network = MODELS.build(student_model(config, training))
    networks: dict[str, nn.Module] = {'student': Deployed(network)}
    if hasattr(network.head, 'release'):
        networks[ENCODER] = EncoderAlone(network.backbone)
    if hasattr(training, 'teachers'):
        networks.update((name, Deployed(teacher.model)) for name, teacher in training.teachers.items())
    elif hasattr(training, 'teacher'):  # an algorithm of MMRazor's
        networks['teacher'] = Deployed(training.teacher)
    return networks, size or deployed_image_size(student_config(config, algorithm=training))


def onnx_runner(name: str, network: nn.Module, images: Tensor, folder: Path) -> Callable[[Tensor], object]:
    """A function that runs a network in onnxruntime, with as many threads as PyTorch has."""
    run = write('onnx', network, images.cpu(), folder / f'{name.replace(" ", "_")}.onnx', {})
    return lambda batch: run(batch.cpu())


@torch.inference_mode()
def measure(networks: dict[str, nn.Module], size: tuple[int, int], batch: int, repeats: int,
            with_onnx: bool) -> list[list]:
    """A row of COLUMNS for each network; the last two are None without onnxruntime."""
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    shapes = {name: (image_channels(network), *size) for name, network in networks.items()}
    rows = []
    for name, network in networks.items():
        image = torch.randn(1, *shapes[name])
        cost = get_model_complexity_info(network, inputs=(image, ), show_table=False, show_arch=False)
        rows.append([name, cost['params'], cost['flops'] / 1e6])
    with tempfile.TemporaryDirectory() as folder:
        with torch.inference_mode(False):  # tracing takes no inference tensors
            onnx = {name: onnx_runner(name, network, torch.randn(2, *shapes[name]), Path(folder))
                    for name, network in networks.items()} if with_onnx else {}
        runtimes = [{name: network.to(device) for name, network in networks.items()}, onnx]
        for runners, where in zip(runtimes, (device, torch.device('cpu'))):
            for count, column in ((1, lambda seconds: 1e3 * seconds), (batch, lambda seconds: batch / seconds)):
                images = {name: torch.randn(count, *shape, device=where) for name, shape in shapes.items()}
                times = median_times({name: lambda run=run, images=images[name]: run(images)
                                      for name, run in runners.items()}, repeats)
                for row in rows:
                    row.append(column(times[row[0]]) if row[0] in times else None)
    return rows


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='the config of a distillation or of one network, or package::path')
    parser.add_argument('--out', type=Path, metavar='DIR', help='also write deploy.md and deploy.csv there')
    parser.add_argument('--batch', type=int, default=64, help='images in a batch, for the throughput (default: 64)')
    parser.add_argument('--repeats', type=int, default=15)
    parser.add_argument('--threads', type=int, help="default: torch's")
    parser.add_argument('--image-size', type=height_x_width, metavar='SIDE',
                        help="or HEIGHTxWIDTH; default: what the config's data says")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with cli.one_line_errors():
        check_number('--batch', args.batch, 1, integer=True)
        check_number('--repeats', args.repeats, 1, integer=True)
        if args.threads is not None:
            torch.set_num_threads(check_number('--threads', args.threads, 1, integer=True))
        config = cli.load_config(args.config)
        cli.require(config, args.config, 'model')
        missing = None
        try:
            check_packages(['onnx'])
        except ImportError as error:
            missing = str(error)
        MMLogger.get_instance('benchmark', log_level='ERROR')  # it lists the operations that cost nothing
        networks, size = build_networks(config, args.image_size)
        rows = measure(networks, size, args.batch, args.repeats, with_onnx=not missing)
        texts = [['-' if value is None else form(value) for form, value in zip(FORMS, row)] for row in rows]
        lines = [f'{Path(args.config).stem}: {size[0]}x{size[1]} pixels, batch {args.batch}, median of {args.repeats}; '
                 f'{environment()}; onnxruntime on the CPU', '', markdown(COLUMNS, texts, left=COLUMNS[:1])]
        lines += [f'\n{missing}'] * bool(missing)
        print('\n'.join(lines))
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            (args.out / 'deploy.md').write_text('\n'.join(lines) + '\n', encoding='utf-8')
            write_csv(args.out / 'deploy.csv', COLUMNS, rows)
            print(f'\n{args.out / "deploy.md"}\n{args.out / "deploy.csv"}')


if __name__ == '__main__':
    main()
