"""What all parts of the engine of batches work with, as one value."""

from msgspec import Struct

from runner.batches import BatchService, BatchStore
from runner.engine.batch.files import Folder
from runner.engine.batch.holding import OpenBatches
from runner.engine.batch.parts import Rules, Told
from runner.engine.batch.spending import Spending
from runner.engine.batch.trouble import Trouble


class Shared(Struct, eq=False, kw_only=True):
    """Of one session."""

    service: BatchService
    store: BatchStore
    held: OpenBatches
    folder: Folder
    rules: Rules
    told: Told
    trouble: Trouble
    spending: Spending
    # rows that come back open go into further batches
    further: bool
