"""From an area and a year to granules and label maps on disk.

The only part of the package that uses the network libraries of the extra ``data``.
"""

import importlib.util

from ...errors import ExtraNotInstalledError

for _name in ('earthaccess', 'mgrs', 'planetary_computer', 'pystac_client', 'requests'):
    if importlib.util.find_spec(_name) is None:
        raise ExtraNotInstalledError(
            f'Downloading needs {_name}, which is not installed; run: pip install '
            "'geoseg_prithvi[data]'."
        )
