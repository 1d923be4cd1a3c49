"""Damage packets of a video file, for tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

av = pytest.importorskip("av", reason="decodes video")


def damage_packets(source: Path, target: Path, is_damaged: Callable[[object, int], bool]) -> None:
    """Copy the packets of a file, of which some have other bytes."""
    with av.open(str(source)) as source_container, av.open(str(target), "w") as container:
        streams = [container.add_stream_from_template(s) for s in source_container.streams]
        packets = (packet for packet in source_container.demux() if packet.size)
        for number, packet in enumerate(packets):
            stream = streams[packet.stream.index]
            if is_damaged(packet, number):
                damaged_packet = av.Packet(b"\xff" * packet.size)
                for name in ("pts", "dts", "time_base"):
                    setattr(damaged_packet, name, getattr(packet, name))
                packet = damaged_packet
            packet.stream = stream
            container.mux(packet)
