import pytest

from testbed.errors import TestbedError
from testbed.host import CAP_SYS_RESOURCE, cgroup_layout, choose_runtime, has_capability

V1 = "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n"
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"
OTHER = "/dev/vda / ext4 rw 0 0\nproc /proc proc rw 0 0\n"


@pytest.mark.parametrize(
    ("mounts", "layout"), [(V1, "v1"), (V2, "v2"), (V1 + V2, "hybrid"), (OTHER + V2, "v2")]
)
def test_cgroup_layout_is_read_from_the_mounts(mounts: str, layout: str) -> None:
    assert cgroup_layout(mounts) == layout


def test_no_cgroup_is_said_so() -> None:
    with pytest.raises(TestbedError, match="No cgroup file system"):
        cgroup_layout(OTHER)


def test_capability_is_read_from_the_effective_set() -> None:
    everything = "CapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n"
    without = "CapPrm:\t000001ffffffffff\nCapEff:\t000001fffeffffff\n"
    assert has_capability(everything, CAP_SYS_RESOURCE)
    assert not has_capability(without, CAP_SYS_RESOURCE)
    assert not has_capability("", CAP_SYS_RESOURCE)


def test_older_cgroups_get_runc_and_v2_the_engines_choice() -> None:
    assert choose_runtime("v2", "/usr/sbin/runc") is None
    assert choose_runtime("hybrid", "/usr/sbin/runc") == "/usr/sbin/runc"
    with pytest.raises(TestbedError, match="needs runc"):
        choose_runtime("v1", None)
