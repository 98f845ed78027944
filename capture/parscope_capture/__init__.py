"""Records every named value of a PyTorch language model's run as a trace that parscope reads.

    with parscope_capture.record(model, "out/"):
        model(input_ids)

Then `parscope diagnose out/ --model MODEL_DIR` names the first op that is wrong.
"""

from .manifest import VERSION as __version__
from .recorder import Recorder, record
from .writer import CaptureError

__all__ = ["CaptureError", "Recorder", "record"]
