"""Python imports this at its start, in the processes that tests start: figures are made, but rendered as one pixel."""

import base64
import importlib.abc
import importlib.util
import sys

PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")


def one_pixel(figure, file, **how):
    """In the place of ``Figure.savefig``."""
    file.write(PIXEL)


class OfFigures(importlib.abc.MetaPathFinder):
    """Finds matplotlib's figures as ever, when somebody wants them, and changes how they are saved."""

    def find_spec(self, name, path, target=None):
        if name != "matplotlib.figure":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def changed(module):
            execute(module)
            module.Figure.savefig = one_pixel

        spec.loader.exec_module = changed
        return spec


if __name__ == "sitecustomize":  # and not a module that the tests import
    sys.meta_path.insert(0, OfFigures())
