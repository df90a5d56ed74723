"""MGOT: unsupervised visible-infrared person re-identification as a fast-reid plugin.

Importing the package prepares fast-reid (:mod:`mgot.compat`) and registers MGOT's parts with it. Without fast-reid the
import gives a warning, and only modules that do not need it work: losses, memory, clustering, matching, transport,
principles, and the scoring of :mod:`mgot.evaluation`.
"""

import sys

if sys.version_info < (3, 10):  # stands first: an older Python could not even parse the modules below
    raise SystemExit(f"mgot needs Python 3.10 - 3.13 and this is {sys.version.split()[0]}: type e.g. `python3.11`")

import warnings

from mgot.compat import FASTREID_MISSING, apply, fastreid_present

__version__ = "0.1.0"

if fastreid_present():
    apply()
    import mgot.config
    import mgot.data.registered
    import mgot.modeling.backbones
else:
    warnings.warn(FASTREID_MISSING, stacklevel=2)
