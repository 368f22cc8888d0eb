# SPDX-License-Identifier: MIT
"""CPython's domains on slabmalloc where a process has several interpreters, with a lock for each and one for all.

An installation lasts until the process ends, so each test runs in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from forms import needs_domains
from installed import check

pytestmark = needs_domains

has_own_locks = sys.version_info >= (3, 12)

INTERPRETERS = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

def make(kind="isolated"):
    if hasattr(interpreters, "exec"):
        return interpreters.create(kind)
    return interpreters.create(isolated=kind == "isolated")

def run_in(interpreter, code):
    failure = (getattr(interpreters, "exec", None) or interpreters.run_string)(interpreter, code)
    assert failure is None, failure
"""

KINDS = pytest.mark.parametrize("kind", ["isolated", "legacy"])
"""From 3.12 on the former have a lock of their own."""


@KINDS
def test_statistics_are_the_processs_in_each_interpreter(kind: str) -> None:
    check(
        INTERPRETERS
        + textwrap.dedent(f"""
        slabmalloc.install()
        held = [bytes(700) for _ in range(10_000)]
        one = make({kind!r})
        run_in(one, '''
        import slabmalloc
        from slabmalloc.process import _pymem
        now = slabmalloc.stats()
        assert sorted(now.domains) == ["mem", "obj", "raw"], now
        assert now.live_bytes > 7_000_000 and now.conserved, now
        assert slabmalloc.trim() >= 0 and _pymem.audit() is None
        slabmalloc.install(["obj", "mem", "raw"])  # all are served already
        '''.replace(chr(10) + " " * 8, chr(10)))
        interpreters.destroy(one)
        is_sound()
        """)
    )


@KINDS
def test_an_interpreter_that_looks_first_blinds_nobody(kind: str) -> None:
    program = f"""
        one = make({kind!r})
        run_in(one, "import slabmalloc; assert slabmalloc.stats().domains == {{}}")
        interpreters.destroy(one)
        import slabmalloc
        slabmalloc.install()
        assert sorted(slabmalloc.stats().domains) == ["mem", "obj", "raw"]
    """
    done = subprocess.run(  # `check` would look before
        [sys.executable, "-c", INTERPRETERS + textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


@KINDS
@pytest.mark.parametrize("domains", ["['obj']", "['mem']", "['raw']", "['numpy']"])
def test_nothing_is_installed_in_a_sub_interpreter_and_the_remedy_is_told(kind: str, domains: str) -> None:
    check(
        INTERPRETERS
        + textwrap.dedent(f"""
        one = make({kind!r})
        run_in(one, '''
        import slabmalloc
        try:
            slabmalloc.install({domains})
        except RuntimeError as error:
            assert str(error).startswith("this is a sub-interpreter, where nothing can be installed: "), error
            assert "call slabmalloc.install() in the main interpreter" in str(error), error
            assert "start the program with slabmalloc run" in str(error), error
        else:
            raise AssertionError
        reasons = slabmalloc.process.refusals().values()
        assert all("sub-interpreter" in reason for reason in reasons), reasons
        '''.replace(chr(10) + " " * 8, chr(10)))
        assert not stats().domains
        """)
    )


def test_interpreters_look_and_give_back_while_the_main_one_works() -> None:
    check(
        INTERPRETERS
        + textwrap.dedent("""
        slabmalloc.install()
        import time
        code = "import slabmalloc\\nfor _ in range(50): assert slabmalloc.stats().domains; slabmalloc.trim()"
        def look(number):
            one = make()
            run_in(one, code)
            interpreters.destroy(one)
        threads = [threading.Thread(target=look, args=[number]) for number in range(3)]
        [thread.start() for thread in threads]
        while any(thread.is_alive() for thread in threads):
            held = [bytes(n % 3000) for n in range(10_000)]
            del held[::2]
            assert _pymem.audit() is None
            time.sleep(0.001)  # in 3.11 no other interpreter gets the lock before it is let go
        del held
        is_sound()
        """)
    )


def test_an_extension_that_can_not_be_loaded_is_no_reason_for_zeros() -> None:
    program = """
        import sys
        class Broken:
            def find_spec(self, name, *_):
                if name == "slabmalloc.process._pymem":
                    raise ImportError("undefined symbol: x")
        sys.meta_path.insert(0, Broken())
        import slabmalloc
        for call in (slabmalloc.stats, slabmalloc.trim, slabmalloc.install):
            try:
                call()
            except RuntimeError as error:
                assert str(error) == "slabmalloc's native extension can't be loaded: undefined symbol: x", error
            else:
                raise AssertionError
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], timeout=60, check=True)


@pytest.mark.skipif(not has_own_locks, reason="interpreters share one lock")
def test_interpreters_with_their_own_lock_never_own_the_heap() -> None:
    check(
        INTERPRETERS
        + textwrap.dedent("""
        slabmalloc.install()
        before = stats().domains["obj"].passed_blocks
        code = '''
        held = []
        for i in range(200_000):
            held.append(bytes(i % 700))
            if len(held) > 500:
                del held[::3]
        '''
        import textwrap
        code = textwrap.dedent(code)
        def elsewhere():
            for _ in range(3):
                one = make()
                run_in(one, code)
                interpreters.destroy(one)
        threads = [threading.Thread(target=elsewhere) for _ in range(3)]
        [thread.start() for thread in threads]
        exec(code, {})
        while any(thread.is_alive() for thread in threads):
            exec(code, {})
            assert _pymem.audit() is None, _pymem.audit()  # what others do meanwhile is in no balance
        [thread.join() for thread in threads]
        assert stats().domains["obj"].passed_blocks - before > 9 * 200_000
        is_sound()
        """)
    )


@pytest.mark.skipif(sys.version_info < (3, 13), reason="ctypes is not for interpreters with a lock of their own")
def test_interpreters_with_their_own_lock_free_remotely() -> None:
    check(
        INTERPRETERS
        + textwrap.dedent("""
        slabmalloc.install()
        blocks = [malloc["obj"](100) for _ in range(1000)]
        before = stats()
        one = make()
        run_in(one, f'''
        import ctypes
        free = ctypes.pythonapi.PyObject_Free
        free.argtypes, free.restype = [ctypes.c_void_p], None
        realloc = ctypes.pythonapi.PyObject_Realloc
        realloc.argtypes, realloc.restype = [ctypes.c_void_p, ctypes.c_size_t], ctypes.c_void_p
        for block in {blocks!r}:
            free(realloc(block, 1000))
        '''.replace(chr(10) + " " * 8, chr(10)))
        interpreters.destroy(one)
        assert stats().remote_frees - before.remote_frees >= 1000, stats()
        is_sound()
        """)
    )


@pytest.mark.skipif(not has_own_locks, reason="interpreters share one lock")
def test_installation_comes_before_other_interpreters() -> None:
    check(
        INTERPRETERS
        + textwrap.dedent("""
        one = make()
        try:
            slabmalloc.install()
        except RuntimeError as error:
            assert "before others are made" in str(error)
        else:
            raise AssertionError
        interpreters.destroy(one)
        slabmalloc.install()
        is_sound()
        """)
    )
