"""Detectron2 without what its own code makes torch warn about, and without tracebacks of errors that are told once."""

import contextlib
import logging
import warnings
from collections.abc import Iterator

# Every exception in training ends the run and is told once, at the top; Detectron2 would log its traceback as well.
logging.getLogger("detectron2.engine.train_loop").addFilter(lambda record: not record.exc_info)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what Detectron2's own code makes torch warn about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)
        warnings.filterwarnings("ignore", message="torch.meshgrid: in an upcoming release", category=UserWarning)
        yield
