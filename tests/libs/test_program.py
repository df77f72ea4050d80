"""`program.run` bites: a program that escapes fastmp, or fails, does not pass."""

import os

import pytest

from . import program


@pytest.mark.parametrize("way", program.WAYS)
def test_a_program_is_run_on_fastmp(tmp_path, way):
    text = """
        import sys
        from multiprocessing import Process, __name__ as name
        if __name__ == "__main__":
            p = Process(target=print, args=("child", *sys.argv[1:]))
            p.start()
            p.join()
            print(name)
    """
    assert program.run(tmp_path, text, "a", way=way) == ["child a", "fastmp"]


def test_a_process_with_the_standard_library_is_found():
    with pytest.raises(AssertionError):
        program.check_log("1 start - x\n1 exit fastmp x\n2 exit stdlib x\n", 1)
    with pytest.raises(AssertionError):
        program.check_log("1 start - x\n1 exit - x\n2 exit - x\n", 2)
    with pytest.raises(AssertionError):
        program.check_log("1 start - x\n1 exit fastmp x\n", 2)
    program.check_log("1 start - x\n1 exit fastmp x\n2 fork fastmp x\n", 2)


def test_a_name_left_by_a_process_is_found():
    name = f"/dev/shm/sem.loky-{os.getpid()}-left"
    open(name, "w").close()
    try:
        assert program.names_left({str(os.getpid())}, grace=0) == [os.path.basename(name)]
        assert program.names_left({str(os.getppid())}, grace=0) == []
    finally:
        os.unlink(name)


def test_a_program_that_fails_is_told(tmp_path):
    with pytest.raises(AssertionError, match="no such luck"):
        program.run(tmp_path, "raise SystemExit('no such luck')")
