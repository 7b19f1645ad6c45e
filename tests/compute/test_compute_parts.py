"""The small parts: devices, placement, memory, logs, frames, back-off."""

from pathlib import Path

import pytest

from dayspring.compute.backoff import Backoff
from dayspring.compute.devices import CpuProbe, CudaProbe, find_devices
from dayspring.compute.frames import FrameProtocol
from dayspring.compute.log_file import WorkerLog
from dayspring.compute.placement import available_memory_bytes, budgets, place
from dayspring.contracts import wire
from dayspring.contracts.devices import Device
from dayspring.core.errors import OutOfMemory, Unavailable
from dayspring.testing.clock import FakeClock

CPU, GPU = Device("cpu", "cpu"), Device("cuda:0", "cuda", memory_bytes=1000)


class Held:
    def __init__(self, device: Device, reserved_bytes: int, last_used_ns: int, *, evictable: bool = True) -> None:
        self.device = device
        self.reserved_bytes = reserved_bytes
        self.last_used_ns = last_used_ns
        self.evictable = evictable


def test_the_processor_is_always_found() -> None:
    (cpu,) = CpuProbe().find()
    assert cpu.threads >= 1
    assert cpu.memory_bytes > 0
    assert find_devices()[-1] == cpu


def test_a_listing_of_accelerators_is_read_and_odd_lines_are_left_out() -> None:
    listing = "0, NVIDIA H200, 143771\n1, Name, with comma, 8192\nNo devices were found\n2, Broken, [N/A]\n\n"
    assert CudaProbe.parse(listing) == [
        Device("cuda:0", "cuda", "NVIDIA H200", 143771 << 20),
        Device("cuda:1", "cuda", "Name, with comma", 8192 << 20),
    ]


def test_a_driver_program_that_is_missing_or_fails_means_no_accelerator(tmp_path: Path) -> None:
    assert CudaProbe("no-such-program").find() == []
    failing = tmp_path / "failing"
    failing.write_text("#!/bin/sh\nexit 9\n")
    failing.chmod(0o755)
    assert CudaProbe(str(failing)).find() == []


def test_a_model_goes_to_the_first_device_with_room() -> None:
    needed = {"cuda:0": 600, "cpu": 600}
    budget = {"cuda:0": 1000, "cpu": 1000}
    assert place("m", needed, [GPU, CPU], budget, []).device == GPU
    assert place("m", needed, [GPU, CPU], budget, [Held(GPU, 500, 1)]).device == CPU


def test_eviction_takes_the_least_recently_used_and_no_more_than_needed() -> None:
    held = [Held(CPU, 300, 3), Held(CPU, 300, 1), Held(CPU, 300, 2), Held(CPU, 100, 0, evictable=False)]
    placement = place("m", {"cpu": 500}, [CPU], {"cpu": 1000}, held)
    assert placement.evict == (held[1], held[2])


def test_what_cannot_fit_says_what_can_be_made_free() -> None:
    held = [Held(CPU, 300 << 20, 1), Held(CPU, 600 << 20, 2, evictable=False)]
    with pytest.raises(OutOfMemory, match="needs 500 MiB and 400 MiB"):
        place("m", {"cpu": 500 << 20}, [CPU], {"cpu": 1000 << 20}, held)
    with pytest.raises(Unavailable, match="no device"):
        place("m", {}, [], {}, [])


def test_the_setting_bounds_the_processors_memory_only() -> None:
    assert budgets([GPU, CPU], 500) == {"cuda:0": 800, "cpu": 500}
    assert budgets([CPU], 0)["cpu"] > 0


def test_memory_is_what_the_control_group_leaves_file_cache_not_counted(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 4000 kB\nMemAvailable:    3000 kB\n")
    assert available_memory_bytes(tmp_path) == 3000 << 10
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("5\n")
    assert available_memory_bytes(tmp_path) == 3000 << 10
    (group / "memory.max").write_text("2000000\n")
    (group / "memory.current").write_text("1500000\n")
    (group / "memory.stat").write_text("anon 900000\ninactive_file 300000\nactive_file 100000\n")
    assert available_memory_bytes(tmp_path) == 900_000


def test_a_log_is_capped_and_keeps_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "w.log"
    log = WorkerLog(path, limit_bytes=10)
    for piece in (b"aaaaaa", b"bbbbbb", b"cccccc", b"x" * 50):
        log.write(piece)
    log.close()
    assert path.read_bytes() == b"x" * 10
    assert path.with_suffix(".log.1").read_bytes() == b"cccccc"
    WorkerLog(path).close()
    assert path.with_suffix(".log.1").read_bytes() == b"x" * 10


def test_frames_cut_anywhere_arrive_whole() -> None:
    got: list[bytes] = []
    protocol = FrameProtocol(got.append, lambda: None)
    stream = b"".join(wire.encode(wire.Cancel(n)) for n in range(50))
    for at in range(0, len(stream), 7):
        protocol.data_received(stream[at : at + 7])
    assert [wire.decode_to_worker(body) for body in got] == [wire.Cancel(n) for n in range(50)]


def test_a_frame_that_claims_too_much_ends_the_connection() -> None:
    got: list[bytes] = []
    protocol = FrameProtocol(got.append, lambda: None)
    closed: list[bool] = []
    protocol.close = lambda: closed.append(True)  # type: ignore[method-assign]
    protocol.data_received((wire.MAX_FRAME_BYTES + 1).to_bytes(4, "little") + b"x" * 100)
    assert closed == [True]
    assert got == []


def test_the_back_off_doubles_up_to_half_a_minute() -> None:
    clock = FakeClock()
    backoff = Backoff(clock)
    assert [backoff.failed("x") for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    clock.advance(29)
    assert backoff.left_s() == 1
    clock.advance(2)
    assert backoff.left_s() == 0
