"""Make land-cover maps of scenes of any size.

INPUT is a folder of HLS granules (one map a tile), a stacked GeoTIFF or VRT with bands named
t0_BLUE ... (as chips have them), a folder of such files, or a text file that lists inputs. One
scene goes to OUT.tif, several go into the folder OUT. Beside map.tif lie map.png, the STAC item
map.json and what the options ask for.

Started by torchrun or srun, the processes share the scenes, or the rows of a single one; a run that
was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import datetime as dt
import logging
import os
import sys
from pathlib import Path

import torch
from mmengine.config import DictAction
from rich.console import Console
from rich.progress import Progress

from geoseg_prithvi.data.frames import SeasonWindow
from geoseg_prithvi.engine.launch import load_run_config
from geoseg_prithvi.errors import ConfigError, report_errors
from geoseg_prithvi.inference import MapOptions, SceneOptions, Tiling, find_scenes
from geoseg_prithvi.inference.ensemble import build_ensemble
from geoseg_prithvi.inference.job import Share
from geoseg_prithvi.inference.maps import make_map, wait_for_maps
from geoseg_prithvi.inference.mosaic import MODES, make_mosaic
from geoseg_prithvi.inference.scene import ON_ERROR
from geoseg_prithvi.inference.segmentor import file_sha256, input_spec
from geoseg_prithvi.inference.writer import LAYERS, MapFiles
from geoseg_prithvi.inference.zones import read_zones
from geoseg_prithvi.models import fetch_checkpoint, is_published, read_published


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file, or a published model')
    parser.add_argument('checkpoint', help='checkpoint file; left out for a published model')
    parser.add_argument('input', nargs='+', type=Path, help='what to predict')
    parser.add_argument('out', type=Path, help='the map, .tif; a folder for several scenes')

    model = parser.add_argument_group('model')
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model.add_argument('--device', default=device, help='cpu, cuda or cuda:N (%(default)s)')
    model.add_argument('--bf16', action='store_true', help='compute in bfloat16')
    model.add_argument(
        '--ensemble',
        nargs='+',
        default=[],
        metavar='CHECKPOINT',
        help='more checkpoints of the config, or published models: average over all',
    )
    model.add_argument('--tta', action='store_true', help='average over the four flips')
    model.add_argument('--batch-size', type=int, default=8, help='windows at once (%(default)s)')
    model.add_argument('--crop-size', type=int, help='pixels that the model sees (as in training)')
    model.add_argument(
        '--halo', type=int, help='pixels of each side to use as context only (1/16 of the crop)'
    )
    model.add_argument(
        '--stride', type=int, help='pixels between windows (3/4 of the crop without its halo)'
    )
    model.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='replace values of the config'
    )

    scene = parser.add_argument_group('scene')
    scene.add_argument(
        '--dates', nargs='+', type=dt.date.fromisoformat, help='date of each frame, YYYY-MM-DD'
    )
    scene.add_argument('--year', type=int, help='year of the frames (the last complete one)')
    scene.add_argument(
        '--windows', nargs='+', metavar='MM-DD:MM-DD', help='season window of each frame'
    )
    scene.add_argument(
        '--layout',
        choices=['time-major', 'band-major'],
        help='how to read a raster that does not name its bands',
    )
    scene.add_argument(
        '--mask-clouds', action='store_true', help='clouds (Fmask) count as not seen'
    )
    scene.add_argument(
        '--on-error',
        choices=ON_ERROR,
        default='raise',
        help='what to do with damaged parts of a file (%(default)s)',
    )

    out = parser.add_argument_group('output')
    out.add_argument('--overwrite', action='store_true', help='replace existing maps')
    for layer in LAYERS:
        out.add_argument(
            f'--{layer}', action='store_true', help=f'write {layer} to map_confidence.tif'
        )
    out.add_argument('--area', action='store_true', help='write hectares of each class to a CSV')
    out.add_argument(
        '--zones', type=Path, help='GeoPackage or GeoJSON: write hectares of each class in each'
    )
    out.add_argument(
        '--mosaic', choices=MODES, help='join the maps of several scenes to OUT/mosaic.tif'
    )
    argv = sys.argv[1:]
    if argv and is_published(argv[0]):  # it is its own checkpoint
        argv.insert(0, argv[0])
    return parser.parse_args(argv)


def tiling_of(args: argparse.Namespace, trained_on: int | None) -> Tiling:
    """Return the windows that the arguments ask for."""
    crop = args.crop_size or trained_on
    if crop is None:
        raise ConfigError('The config does not say its crop size; give it with --crop-size.')
    halo = crop // 16 if args.halo is None else args.halo
    return Tiling.of_crop(crop, halo, args.stride)


def share_of_this_process() -> Share:
    """Read from the environment which process of torchrun or Slurm this is."""
    for rank, world in (('RANK', 'WORLD_SIZE'), ('SLURM_PROCID', 'SLURM_NTASKS')):
        if rank in os.environ and world in os.environ:
            return Share(int(os.environ[rank]), int(os.environ[world]))
    return Share()


def device_of_this_process(device: str) -> str:
    """Give each process of a machine a GPU of its own."""
    local = os.environ.get('LOCAL_RANK', os.environ.get('SLURM_LOCALID'))
    return f'cuda:{local}' if device == 'cuda' and local is not None else device


@report_errors
def main() -> None:
    """Make the maps."""
    args = parse_args()
    logging.basicConfig(level=logging.WARNING, format='%(levelname)s: %(message)s')
    published = is_published(args.config)
    cfg = load_run_config(
        read_published(args.config)[0] if published else args.config, options=args.cfg_options
    )
    checkpoints = [fetch_checkpoint(path) for path in (args.checkpoint, *args.ensemble)]
    frames, bands, crop = input_spec(cfg)
    scenes = find_scenes(args.input)
    scene_options = SceneOptions(
        num_frames=frames,
        bands=bands,
        dates=args.dates,
        year=args.year,
        windows=args.windows and [SeasonWindow.parse(text) for text in args.windows],
        layout=args.layout,
        mask_clouds=args.mask_clouds,
        on_error=args.on_error,
    )
    tiling = tiling_of(args, crop)
    zones = [] if args.zones is None else read_zones(args.zones)
    configs = [read_published(path)[0] if is_published(path) else cfg for path in args.ensemble]
    for other, path in zip(configs, args.ensemble, strict=True):
        if input_spec(other)[:2] != (frames, bands):
            raise ConfigError(f'{path} takes other frames or bands than {args.config}.')
    segmentor = build_ensemble(
        list(zip([cfg, *configs], checkpoints, strict=True)),
        device=device_of_this_process(args.device),
        tta=args.tta,
        bf16=args.bf16,
    )
    single = args.out.suffix.lower() in ('.tif', '.tiff')
    if single and (len(scenes) > 1 or args.mosaic):
        raise ConfigError(
            f'{len(scenes)} scenes do not fit into {args.out}; name a folder for their maps.'
        )
    maps = {scene.name: args.out if single else args.out / f'{scene.name}.tif' for scene in scenes}
    process = share = share_of_this_process()
    keep_same = len(scenes) > 1 or share.world > 1
    if len(scenes) >= share.world:  # each process makes whole maps
        scenes, share = scenes[share.rank :: share.world], Share()
    options = MapOptions(
        tiling=tiling,
        batch_size=args.batch_size,
        layers=[layer for layer in LAYERS if getattr(args, layer)],
        area=args.area,
        zones=zones,
        overwrite=args.overwrite,
        keep_same=keep_same,
        share=share,
        tags={
            'GEOSEG_MODEL': Path(args.config).name,
            'GEOSEG_CHECKPOINT': ','.join(path.name for path in checkpoints),
            'GEOSEG_CHECKPOINT_SHA256': ','.join(map(file_sha256, checkpoints)),
            'GEOSEG_WINDOWS': f'crop {tiling.box}, halo {tiling.halo}, stride {tiling.stride}'
            + (', 4 flips' if args.tta else '')
            + (', bf16' if args.bf16 else ''),
        },
    )
    console = Console()
    for scene in scenes:
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task(scene.name, total=1.0)
            files = make_map(
                scene,
                segmentor,
                maps[scene.name],
                scene_options,
                options,
                lambda share, p=progress, t=task: p.update(t, completed=share),
            )
        if share.rank == 0:  # it writes the map
            show(console, files)
    if args.mosaic and process.rank == 0:
        wait_for_maps(list(maps.values()), options.tags)
        mosaic = make_mosaic(
            list(maps.values()),
            args.out / 'mosaic.tif',
            mode=args.mosaic,
            area=args.area,
            overwrite=args.overwrite,
        )
        show(console, mosaic)


def show(console: Console, files: MapFiles) -> None:
    """Tell the user which files there are."""
    console.print(f'map      {files.map}', soft_wrap=True)
    for file in files.beside[1:]:
        if file.exists():
            console.print(f'         {file}', soft_wrap=True)


if __name__ == '__main__':
    main()
