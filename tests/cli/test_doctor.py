# SPDX-License-Identifier: MIT
"""``slabmalloc doctor``: it answers everywhere, as text and as JSON, and does not change anything."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import slabmalloc
from forms import IS_FREE_THREADED, needs_domains
from slabmalloc.cli.doctor import findings


def doctor(*arguments: str, options: tuple[str, ...] = (), address_space: int | None = None, **environment: str) -> str:
    def prepare() -> None:
        if address_space is not None:
            resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))

    done = subprocess.run(
        [sys.executable, *options, "-m", "slabmalloc", "doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, **environment},
        preexec_fn=prepare,
    )
    return done.stdout


def test_json_has_the_six_sections() -> None:
    found = json.loads(doctor("--json"))
    assert list(found) == ["slabmalloc", "start_file", "variables", "interpreter", "machine", "domains"]
    assert found["interpreter"]["version"] == platform.python_version()
    assert found["interpreter"]["executable"] == sys.executable
    assert found["machine"]["os_page_bytes"] == os.sysconf("SC_PAGE_SIZE")
    assert list(found["domains"]) == ["raw", "mem", "obj", "malloc", "numpy"]


def test_text_names_what_json_names() -> None:
    text = doctor()
    for title, rows in findings().items():
        assert title.replace("_", " ") in text.splitlines()
        for name in rows:
            label = name if name.isupper() else name.removesuffix("_bytes").replace("_", " ")
            assert f"  {label} " in text


def test_that_no_variable_is_set_is_told() -> None:
    is_any_set = any(name.startswith("SLABMALLOC_") for name in os.environ)
    assert ("variables\n  none is set\n" in doctor()) != is_any_set


def test_text_has_sizes_that_people_read() -> None:
    text = doctor(address_space=2 << 30)
    machine = json.loads(doctor("--json", address_space=2 << 30))["machine"]
    rows = dict(line.strip().split("  ", 1) for line in text.splitlines() if line.startswith("  ") and "  " in line[2:])
    rows = {name: value.strip() for name, value in rows.items()}
    assert machine["address_space_limit_bytes"] == 2 << 30
    assert rows["address space limit"] == "2,048 MiB"
    assert rows["memory"] == f"{machine['memory_bytes'] / 2**20:,.0f} MiB"
    assert rows["os page"] == f"{os.sysconf('SC_PAGE_SIZE') >> 10} KiB"
    assert "LD_PRELOAD" in rows


def test_the_form_is_told() -> None:
    assert "pure Python" in json.loads(doctor("--json", SLABMALLOC_PURE="1"))["slabmalloc"]["form"]
    if slabmalloc.FORM == "native":
        assert json.loads(doctor("--json"))["slabmalloc"]["form"] == "native"


def test_reasons_against_a_domain_are_given() -> None:
    found = json.loads(doctor("--json", PYTHONTRACEMALLOC="1"))
    assert found["domains"]["obj"].startswith("not served: ")
    assert found["domains"]["raw"].startswith("not served: ")


def start_file(value: str, *options: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(doctor("--json", options=options, SLABMALLOC=value))["start_file"]
    return found


def test_the_start_up_file_is_found_and_what_it_did_is_told() -> None:
    found = start_file("0")
    assert found == {"file": found["file"], "SLABMALLOC": "0", "effect": "none: SLABMALLOC asks for nothing"}
    assert Path(found["file"]).samefile(Path(slabmalloc.__file__).parent.parent / "slabmalloc.pth")
    assert "'x' is not known" in start_file("x")["effect"]
    assert "-I" in start_file("preload", "-I")["effect"]
    if importlib.util.find_spec("slabmalloc.process._pymem") is not None:
        assert start_file("preload")["effect"] == "started anew on the preload library"
        served = "keeps its own heaps" if IS_FREE_THREADED else "served in process"
        assert served in start_file("in-process")["effect"]


def test_without_a_start_up_file_there_is_no_effect(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path)], check=True, timeout=60)
    done = subprocess.run(
        [str(tmp_path / "bin" / "python"), "-m", "slabmalloc", "doctor", "--json"],
        env={**os.environ, "SLABMALLOC": "preload", "PYTHONPATH": str(Path(slabmalloc.__file__).parent.parent)},
        capture_output=True,
        check=True,
    )
    effect = "none: there is no start-up file in this environment"
    assert json.loads(done.stdout)["start_file"] == {"file": None, "SLABMALLOC": "preload", "effect": effect}


def test_what_follows_from_the_setting_of_huge_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(setting: str, of_size: str | None = None, bytes_each: int = 2 << 20) -> str:
        (tmp_path / "enabled").write_text(setting)
        (tmp_path / "hpage_pmd_size").write_text(f"{bytes_each}\n")
        folder = tmp_path / f"hugepages-{bytes_each >> 10}kB"
        folder.mkdir(exist_ok=True)
        (folder / "enabled").write_text(of_size or "always [inherit] madvise never\n")
        return str(findings()["slabmalloc"]["huge_pages"])

    monkeypatch.setattr("slabmalloc.cli.doctor.HUGE_PAGES", tmp_path)
    assert "none on this machine" in str(findings()["slabmalloc"]["huge_pages"])
    assert "none on this machine" in told("always madvise [never]\n")
    assert "none on this machine" in told("[always] madvise never\n", "always inherit madvise [never]\n")
    if "THP_enabled:\t0" in Path("/proc/self/status").read_text():
        pytest.skip("this process was started without huge pages")
    assert told("always [madvise] never\n").endswith("without it blocks above 128 KiB where NumPy asks for them")
    assert told("[always] madvise never\n").endswith("without it blocks above 128 KiB as the machine gives them")
    monkeypatch.setenv("SLABMALLOC_HARDENED", "1")  # what a program would be that is started so
    hardened = (
        "blocks above 128 KiB where NumPy asks for them, others never: --huge-pages has no effect in hardened mode"
    )
    assert told("always [madvise] never\n") == hardened
    assert "none on this machine" in told("always madvise [never]\n")
    assert "512 MiB are too large" in told("[always] madvise never\n", bytes_each=512 << 20)
    assert findings()["machine"]["transparent_huge_page_bytes"] == 512 << 20


# ---- who serves -------------------------------------------------------------------------------------------------

RUN = ("-m", "slabmalloc", "run", "--quiet")
CAN_BE = "can be served: by slabmalloc run, or slabmalloc.install()"
BY_RUN = "can be served: by slabmalloc run, which preloads"

needs_extension = pytest.mark.skipif(
    importlib.util.find_spec("slabmalloc.process._pymem") is None, reason="needs the native extension"
)


def domains(*options: str, **environment: str) -> dict[str, str]:
    """What is said of each, but of NumPy's data."""
    found: dict[str, str] = json.loads(doctor("--json", options=options, **environment))["domains"]
    del found["numpy"]
    return found


def numpy(*options: str, **environment: str) -> str:
    return str(json.loads(doctor("--json", options=options, **environment))["domains"]["numpy"])


@needs_extension
def test_variables_whose_value_is_none_are_told() -> None:
    wrong = {
        "SLABMALLOC_CLASSES": ("16,24", "'24' is not a multiple of 16 (size classes are "),
        "SLABMALLOC_DOMAINS": (
            "objj",
            "'objj' is not a domain that can be served so; name some of obj, mem, raw, or none",
        ),
        "SLABMALLOC_RESERVE": ("64G", "'64G' is not a number from 1 on"),
    }
    given = {name: value for name, (value, _) in wrong.items()}
    found = json.loads(doctor("--json", **given, SLABMALLOC_DECAY_MS="10"))["variables"]
    assert found.pop("SLABMALLOC_DECAY_MS") == "10"
    for name, (value, reason) in wrong.items():
        assert found[name].startswith(f"{value!r} is not used: {reason}")
    assert "  SLABMALLOC_RESERVE            '64G' is not used: " in doctor(SLABMALLOC_RESERVE="64G")


@needs_extension
@needs_domains
def test_who_serves_on_stock_in_process_and_under_preload() -> None:
    assert domains() == {"raw": CAN_BE, "mem": CAN_BE, "obj": CAN_BE, "malloc": BY_RUN}
    served = dict.fromkeys(("raw", "mem", "obj"), "served")
    assert domains(SLABMALLOC="in-process") == {**served, "malloc": BY_RUN}
    assert domains(*RUN) == {**served, "malloc": "served"}
    assert domains("-X", "tracemalloc", *RUN) == {**served, "malloc": "served"}
    unnamed = dict.fromkeys(("mem", "obj"), "not served: SLABMALLOC_DOMAINS does not name it")
    assert domains(*RUN, "--domains=raw") == {"raw": "served", **unnamed, "malloc": "served"}
    unnamed = {"raw": "served, by malloc", **unnamed, "malloc": "served"}
    assert domains(*RUN, "--domains=none") == unnamed


@needs_extension
@needs_domains
@pytest.mark.parametrize("allocator", ["debug", "malloc", "pymalloc", "development mode"])
def test_who_serves_where_python_uses_its_own_allocators(allocator: str) -> None:
    is_mode = allocator == "development mode"
    options, variables = (("-X", "dev"), {}) if is_mode else ((), {"PYTHONMALLOC": allocator})
    cause = "development mode (-X dev)" if is_mode else f"PYTHONMALLOC={allocator}"
    has_hooks = allocator not in ("malloc", "pymalloc")
    remedy = "leave it out, or have them served in process (--in-process, SLABMALLOC=in-process)"
    not_served = f"not served: {cause} has Python use allocators of its own; {remedy}"
    by_malloc = (
        f"served, by malloc, beneath the debug hooks of {cause}"
        if has_hooks
        else f"served, by malloc, as {cause} has it"
    )

    objects = by_malloc if allocator == "malloc" else not_served
    expected = {"raw": by_malloc, "mem": objects, "obj": objects, "malloc": "served"}
    assert domains(*options, *RUN, **variables) == expected
    served = f"served, above the debug hooks of {cause}" if has_hooks else "served"
    expected = {**dict.fromkeys(("raw", "mem", "obj"), served), "malloc": BY_RUN}
    assert domains(*options, SLABMALLOC="in-process", **variables) == expected
    can_be = f"can be served: in process, by slabmalloc.install(); by slabmalloc run without {cause}"
    assert domains(*options, **variables) == {"raw": CAN_BE, "mem": can_be, "obj": can_be, "malloc": BY_RUN}


@needs_extension
def test_who_serves_the_data_of_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    from slabmalloc.process import effect

    pytest.importorskip("numpy")
    asked = "raw" if (effect._numpy_version() or ()) >= (2, 5) else "malloc"
    assert numpy(*RUN, "--domains=raw") == f"served, by {asked}"
    assert numpy() == CAN_BE
    if asked == "malloc" and not IS_FREE_THREADED:
        assert numpy(SLABMALLOC="in-process") == "served, once it is imported"
    monkeypatch.setattr(effect, "_numpy_version", lambda: None)
    assert effect.in_effect()["numpy"] == "NumPy is not installed here"
    monkeypatch.setattr(effect, "_numpy_version", lambda: (2, 5))
    assert effect.in_effect()["numpy"] == CAN_BE


@needs_extension
def test_who_serves_what_was_replaced_later() -> None:
    program = """
import ctypes, slabmalloc
from slabmalloc.process.effect import in_effect
raw, before, ours, api = 0, (ctypes.c_void_p * 5)(), (ctypes.c_void_p * 5)(), ctypes.pythonapi
api.PyMem_GetAllocator(raw, before)
slabmalloc.install("raw")
api.PyMem_GetAllocator(raw, ours)
assert in_effect()["raw"] == "served"
mixed = (ctypes.c_void_p * 5)(*before[:3], *ours[3:])  # what gives blocks back takes both kinds
api.PyMem_SetAllocator(raw, mixed)
print(in_effect()["raw"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "not served: another allocator was put in front of slabmalloc after it was installed\n"


def test_without_the_extension_the_reason_is_told(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['slabmalloc.process._pymem'] = None\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    found = json.loads(doctor("--json", PYTHONPATH=path))["domains"]
    reason = "the process allocator needs slabmalloc's native extension, and this installation has none"
    assert found == dict.fromkeys(("raw", "mem", "obj", "malloc", "numpy"), f"not served: {reason}")
