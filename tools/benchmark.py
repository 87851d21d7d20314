"""Measure this package: one subcommand per subject."""

from __future__ import annotations

import argparse

from geoseg_prithvi.errors import report_errors


def add_balance(commands: argparse._SubParsersAction) -> None:
    """``balance``: how balanced the sampler's epochs are, against the alternatives."""
    parser = commands.add_parser('balance', help='class mix of the training chips')
    parser.add_argument('--chips', help='chip folder to measure besides the synthetic populations')
    parser.add_argument('--num-chips', type=int, default=5000, help='chips of each population')
    parser.add_argument('--timing-chips', type=int, default=1_000_000, help='chips to time with')
    parser.add_argument('--max-repeat', type=float, default=8.0, help='cap on repeats')
    parser.set_defaults(run=run_balance)


def run_balance(args: argparse.Namespace) -> None:
    """Print the KL of four ways of drawing, and the time of ours."""
    from geoseg_prithvi.data.subset_manifest import read_chip_table
    from geoseg_prithvi.experiments import balance_benchmark as bench

    populations = {
        name: bench.synthetic_population(name, args.num_chips) for name in bench.POPULATIONS
    }
    if args.chips:
        populations[args.chips] = read_chip_table(args.chips, 'train').class_pixels
    width = max(len(name) for name in populations)
    print(f'KL from equal class shares (nats), no chip more than {args.max_repeat:g} x the mean')
    print(
        f'{"population":{width}}    chips  as they come  repeat factor (best thr.)'
        '  inverse freq.     ours  optimum'
    )
    for name, pixels in populations.items():
        r = bench.compare(name, pixels, args.max_repeat)
        print(
            f'{name:{width}} {r.chips:8d}  {r.as_they_come:12.4f}  {r.repeat_factor:13.4f}'
            f' {f"({r.threshold:g})":>11}  {r.inverse_frequency:13.4f}  {r.ours:7.4f}'
            f'  {r.optimum:7.4f}'
        )
    if args.timing_chips:
        t = bench.time_balance(args.timing_chips)
        print(
            f'{t.chips} chips: weights {t.weights:.2f} s (gap {t.gap:.1e} nats), '
            f'epoch {t.epoch:.2f} s'
        )


def add_predict(commands: argparse._SubParsersAction) -> None:
    """``predict``: scene throughput against the model's own batched throughput."""
    parser = commands.add_parser('predict', help='speed and memory of making maps')
    parser.add_argument('config', help='config file; weights are random')
    parser.add_argument('--size', type=int, nargs=2, default=(3660, 3660), help='rows, columns')
    parser.add_argument('--crop-size', type=int, help='pixels that the model sees (as in training)')
    parser.add_argument('--batch-size', type=int, default=8, help='windows at once')
    parser.add_argument('--device', default='cpu', help='cpu, cuda or cuda:N')
    parser.add_argument('--bf16', action='store_true', help='compute in bfloat16')
    parser.set_defaults(run=run_predict)


def run_predict(args: argparse.Namespace) -> None:
    """Print both throughputs, their ratio and the peak of memory."""
    import tempfile
    from pathlib import Path

    from geoseg_prithvi.engine.launch import load_run_config
    from geoseg_prithvi.inference import Tiling, build_segmentor
    from geoseg_prithvi.inference.benchmark import measure
    from geoseg_prithvi.inference.segmentor import input_spec

    cfg = load_run_config(args.config)
    frames, bands, crop = input_spec(cfg)
    crop = args.crop_size or crop
    segmentor = build_segmentor(cfg, device=args.device, bf16=args.bf16)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(
            segmentor,
            Tiling.of_crop(crop, crop // 16),
            Path(folder),
            size=tuple(args.size),
            num_frames=frames,
            bands=bands,
            batch_size=args.batch_size,
        )
    print(f'{found.windows} windows of {crop} px, {frames} frames, batches of {args.batch_size}')
    print(f'model alone  {found.model:9.1f} windows/s')
    print(f'whole scene  {found.scene:9.1f} windows/s, {found.ratio:.3f} of it')
    print(f'peak memory  {found.memory:9.0f} MiB')


def add_chips(commands: argparse._SubParsersAction) -> None:
    """``chips``: tools/prepare_data.py against decoding and writing alone."""
    parser = commands.add_parser('chips', help='speed and memory of tools/prepare_data.py')
    parser.add_argument('--folder', help='where synthetic tiles are kept (default: nowhere)')
    parser.add_argument('--tiles', type=int, nargs='+', default=[1], help='1 to 4; e.g. 1 2 4')
    parser.add_argument('--size', type=int, default=3660, help='pixels along a tile')
    parser.add_argument('--dates', type=int, default=3, help='acquisitions of a tile')
    parser.add_argument('--workers', type=int, default=2, help='processes')
    parser.set_defaults(run=run_chips)


def run_chips(args: argparse.Namespace) -> None:
    """Print times by the clock, their ratio and the peak of memory for numbers of tiles."""
    import tempfile
    from pathlib import Path

    from geoseg_prithvi.experiments.chip_benchmark import time_chips, time_command, time_index

    tool = Path(__file__).with_name('prepare_data.py')
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print(f'tiles of {args.size} px, {args.dates} dates; {args.workers} workers')
        print('tiles  chips    floor  prepare_data.py  ratio  memory of a worker')
        for count in args.tiles:
            t = time_chips(
                tool, folder, count, size=args.size, dates=args.dates, workers=args.workers
            )
            print(
                f'{t.tiles:5d}  {t.chips:5d}  {t.floor:5.1f} s  {t.command:13.1f} s'
                f'  {t.command / t.floor:5.2f}  {t.memory:15.0f} MB'
            )
        start, _ = time_command([tool, '--help'])
        print(f'of each run, starting Python and importing: {start:.1f} s')
        print(f'100000 rows of an index, read and filtered: {time_index(folder):.2f} s')


def add_weights(commands: argparse._SubParsersAction) -> None:
    """``weights``: loading and converting weights of full size."""
    parser = commands.add_parser('weights', help='time and memory of loading and converting')
    parser.add_argument(
        'config', nargs='?', default='configs/burn_scars.py', help='of the fine-tuned model'
    )
    parser.set_defaults(run=run_weights)


def run_weights(args: argparse.Namespace) -> None:
    """Print time and memory beyond the model itself, with random weights of the true shapes."""
    import tempfile
    from pathlib import Path

    from geoseg_prithvi.experiments.weights_benchmark import time_weights

    print('step                   file   build    step   memory beyond the model')
    with tempfile.TemporaryDirectory() as folder:
        for t in time_weights(Path(folder), Path(args.config)):
            times = f'{t.build:4.1f} s  {t.seconds:4.1f} s'
            print(f'{t.step:19} {t.size:5d} MB  {times}  {t.memory:5d} MB')


#: A new subject adds a function here and one that measures in `geoseg_prithvi`.
SUBJECTS = (add_balance, add_chips, add_predict, add_weights)


@report_errors
def main() -> None:
    """Run the subcommand."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True, metavar='subject')
    for add in SUBJECTS:
        add(commands)
    args = parser.parse_args()
    args.run(args)


if __name__ == '__main__':
    main()
