"""Where weights come from: a local file or ``hf://owner/repo/file[@revision]``."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from mmengine.runner.checkpoint import CheckpointLoader

from ..compat import load_checkpoint_file
from ..errors import CheckpointMismatchError, ConfigError, WeightsNotFoundError

_HF = re.compile(
    r'hf://(?P<repo>[^/@]+/[^/@]+)/(?P<file>[^@]+?)(?:@(?P<revision>[^@]+))?$', re.ASCII
)

_ADVICE = (
    'put the file somewhere and set init_cfg.checkpoint to its path, set HF_ENDPOINT to a mirror '
    'you can reach, or train from scratch with model.backbone.init_cfg=None'
)


def fetch_checkpoint(checkpoint: str | Path, sha256: str | None = None) -> Path:
    """Return the local path of a checkpoint, downloading it if it is on the hub.

    The hub's own settings hold: ``HF_HOME`` (cache), ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``,
    ``HF_TOKEN``.

    Args:
        checkpoint: A path, or ``hf://owner/repo/file[@revision]``.
        sha256: Expected digest of the file, hexadecimal.

    Raises:
        ConfigError: If an ``hf://`` URL is malformed.
        WeightsNotFoundError: If the file can be found neither locally nor on the hub.
        CheckpointMismatchError: If the digest is another one.
    """
    if str(checkpoint).startswith('hf://'):
        path = _download(str(checkpoint))
    else:
        path = Path(checkpoint).expanduser()
        if not path.is_file():
            raise WeightsNotFoundError(f'The weights {path} are not there; {_ADVICE}.')
    if sha256 is not None:
        digest = hashlib.sha256()
        with path.open('rb') as file:
            while block := file.read(1 << 20):
                digest.update(block)
        found = digest.hexdigest()
        if found != sha256.lower():
            raise CheckpointMismatchError(
                f'{path} has the sha256 {found}, not {sha256} as the config says; delete it and '
                'fetch it again, or correct sha256.'
            )
    return path


def current_revision(url: str) -> str:
    """Ask the hub which commit the main branch of a checkpoint's repository stands at.

    Args:
        url: ``hf://owner/repo/file``, with or without a revision.

    Raises:
        ConfigError: If the URL is malformed.
        WeightsNotFoundError: If the hub cannot be reached, or the file is not there any more.
    """
    match = _match(url)
    try:
        info = HfApi().model_info(match['repo'])
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        reason = ' '.join(str(error).split())
        raise WeightsNotFoundError(f'The hub was asked for {match["repo"]}: {reason}.') from error
    if match['file'] not in {sibling.rfilename for sibling in info.siblings}:
        raise WeightsNotFoundError(
            f'{match["repo"]} has no file {match["file"]} at its current revision {info.sha}; '
            'stay with the pinned one.'
        )
    return info.sha


def _match(url: str) -> re.Match[str]:
    match = _HF.match(url)
    if match is None:
        raise ConfigError(f'{url} is no checkpoint URL; write hf://owner/repo/file[@revision].')
    return match


def _download(url: str) -> Path:
    match = _match(url)
    try:
        return Path(hf_hub_download(match['repo'], match['file'], revision=match['revision']))
    except GatedRepoError:
        reason = 'the repository is gated: accept its licence on the hub and set HF_TOKEN'
    except RepositoryNotFoundError:
        reason = 'the hub has no such repository, or HF_TOKEN does not give access to it'
    except RevisionNotFoundError:
        reason = f'the repository has no revision {match["revision"]}'
    except LocalEntryNotFoundError:
        reason = 'the hub cannot be reached (or HF_HUB_OFFLINE is set) and the cache has no copy'
    except EntryNotFoundError:
        reason = f'the repository has no file {match["file"]}'
    except (OSError, HFValidationError) as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
    raise WeightsNotFoundError(f'{url} could not be fetched: {reason}; {_ADVICE}.')


@CheckpointLoader.register_scheme(prefixes='hf://', force=True)
def load_from_hf(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Load ``hf://owner/repo/file[@revision]`` for mmengine (``load_from``, ``resume``)."""
    return load_checkpoint_file(fetch_checkpoint(filename), map_location or 'cpu')
