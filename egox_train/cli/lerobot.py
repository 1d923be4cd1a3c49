"""Define the ``lerobot`` subcommand of ``train_egox.py``."""

import argparse

from egox_core.progress import Progress

from ..options import RobotOptions, add_dataclass_arguments, from_arguments


def lerobot_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataclass_arguments(parser, RobotOptions)


def run_lerobot(args: argparse.Namespace, progress: Progress) -> int:
    from ..data.robot_clips import write_robots

    for line in write_robots(from_arguments(RobotOptions, args), progress):
        print(line)
    return 0
