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


#: A new subject adds a function here and one that measures in `geoseg_prithvi`.
SUBJECTS = (add_balance,)


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
