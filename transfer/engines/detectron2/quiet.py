"""A quieter Detectron2: without the warnings that its code makes torch give, or tracebacks of errors reported once."""

import contextlib
import logging
import warnings
from collections.abc import Iterator

# Every exception in training ends the run and is reported once, at the top; Detectron2 would log its traceback as well.
logging.getLogger("detectron2.engine.train_loop").addFilter(lambda record: not record.exc_info)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the warnings that Detectron2's own code makes torch give."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)
        warnings.filterwarnings("ignore", message="torch.meshgrid: in an upcoming release", category=UserWarning)
        yield
