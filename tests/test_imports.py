"""Imports point one way (DESIGN section 2), and importing needs nothing but the package."""

import ast
import subprocess
import sys
from pathlib import Path

import geoseg_prithvi

ROOT = Path(geoseg_prithvi.__file__).parent
FACTS = {'errors', 'hls', 'lulc', 'layout', 'compat', 'version'}
MAY_IMPORT = {
    'data': FACTS | {'data'},
    'datasets': FACTS | {'data', 'datasets'},
    'models': FACTS | {'models'},
    'evaluation': FACTS | {'evaluation'},
    'engine': FACTS | {'engine', 'visualization'},
    'visualization': FACTS | {'visualization'},
}


def _imports(path: Path) -> set[str]:
    """Parts of the package that a module imports, and foreign top-level packages as ``name:``."""
    package = path.relative_to(ROOT.parent).with_suffix('').parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            names = (*base, *(node.module or '').split('.')) if node.module else base
            if len(names) > 1:
                found.add(names[1])
            else:
                found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = node.module.split('.')
            found.add(parts[1] if parts[0] == 'geoseg_prithvi' and parts[1:] else parts[0] + ':')
        elif isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split('.')
                found.add(
                    parts[1] if parts[0] == 'geoseg_prithvi' and parts[1:] else parts[0] + ':'
                )
    return found


def _package_parts() -> set[str]:
    return {p.name.removesuffix('.py') for p in ROOT.iterdir() if p.suffix in ('', '.py')}


def test_imports_point_one_way():
    parts = _package_parts()
    wrong = []
    for path in sorted(ROOT.rglob('*.py')):
        part = path.relative_to(ROOT).parts[0].removesuffix('.py')
        allowed = FACTS if part in FACTS else MAY_IMPORT.get(part, parts)
        wrong += [f'{path.name} -> {name}' for name in (_imports(path) & parts) - allowed]
    assert wrong == []


def test_data_needs_neither_torch_nor_the_stack():
    heavy = {'torch:', 'mmengine:', 'mmcv:', 'mmseg:'}
    wrong = [p.name for p in ROOT.glob('data/**/*.py') if _imports(p) & heavy]
    assert wrong == []


def test_import_registers_without_network_or_gpu():
    code = (
        'import socket\n'
        'def refuse(*a, **k): raise OSError("network used")\n'
        'socket.socket.connect = refuse\n'
        'import geoseg_prithvi\n'
        'from mmseg.registry import DATASETS, DATA_SAMPLERS, HOOKS, METRICS, MODELS, TRANSFORMS\n'
        'for registry, names in [\n'
        '    (MODELS, "PrithviViT PrithviMAE TemporalFuse ProgressiveUpsample '
        'ConvTransformerTokensToEmbeddingNeck HLSDataPreprocessor GeoEncoderDecoder"),\n'
        '    (DATASETS, "HLSSegDataset"), (TRANSFORMS, "LoadHLSChip LoadHLSLabel"),\n'
        '    (METRICS, "LULCMetric"), (HOOKS, "HLSVisualizationHook"),\n'
        '    (DATA_SAMPLERS, "ClassBalancedSampler"),\n'
        ']:\n'
        '    for name in names.split():\n'
        '        assert registry.get(name) is not None, name\n'
    )
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
