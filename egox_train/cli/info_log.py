"""Print what the commands log, such as memory and number types."""

import logging
import os


def is_first_process() -> bool:
    """Tell whether this is the one of a launcher's processes that speaks."""
    return os.environ.get("RANK", "0") == "0"


def print_info_log() -> None:
    """Print log messages of level INFO on stderr, of several processes those of the first."""
    logging.basicConfig(format="%(message)s")
    if is_first_process():
        logging.getLogger("egox_train").setLevel(logging.INFO)
