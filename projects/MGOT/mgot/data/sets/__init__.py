"""The data sets, one a file: each module of this folder is imported here, and its decorator registers it."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
