"""Django's parallel test runner: a Pool with an initializer, results by imap_unordered."""

import pytest

from tests.libs import program
from tests.support import programs

program.needs("django")

SETTINGS = """\
import os
import django
SECRET_KEY = "x"
INSTALLED_APPS = ["app"]
# Before 6.0 a spawned worker looks for its copy where only one of a database in memory lies; on the
# standard library it then dies, and is replaced, without an end.
ON_DISK = django.VERSION >= (6,) or os.environ["METHOD"] == "fork"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3",
                         "TEST": {"NAME": "test.sqlite3"} if ON_DISK else {}}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
"""

MODELS = """\
from django.db import models

class Thing(models.Model):
    name = models.CharField(max_length=20)
"""

TESTS = """\
import multiprocessing, os
from django.db import connection
from django.test import TestCase
from app.models import Thing

class Base:
    def test_rows(self):
        for n in range(5):
            Thing.objects.create(name=f"{type(self).__name__} {n}")
        self.assertEqual(Thing.objects.count(), 5)

    def test_where(self):
        with open("where", "a") as file:
            name = os.path.basename(str(connection.settings_dict["NAME"]))
            process = multiprocessing.current_process().name
            file.write(f"{multiprocessing.__name__}|{name}|{process}\\n")

    def test_subtests(self):
        for n in range(3):
            with self.subTest(n=n):
                self.assertLess(n, 3)
"""

MANAGE = """\
import multiprocessing, os, sys
from django.core.management import execute_from_command_line

if __name__ == "__main__":
    multiprocessing.set_start_method(os.environ["METHOD"])
    execute_from_command_line(sys.argv)
"""

FAILING = """
class Fails(TestCase):
    def test_fails(self):
        self.assertEqual(Thing.objects.count(), 77)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    app = tmp_path / "app"
    (app / "migrations").mkdir(parents=True)
    for file in app / "__init__.py", app / "migrations" / "__init__.py":
        file.touch()
    (tmp_path / "settings.py").write_text(SETTINGS)
    (app / "models.py").write_text(MODELS)
    classes = [f"class Case{n}(Base, TestCase):\n    pass\n" for n in range(6)]
    (app / "tests.py").write_text(TESTS + "\n" + "\n".join(classes))
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log"

    (tmp_path / "manage.py").write_text(MANAGE)

    def manage(*arguments, method="fork"):
        env = programs.environment(
            FASTMP_INSTALL="1",
            FASTMP_LOG=str(log),
            DJANGO_SETTINGS_MODULE="settings",
            METHOD=method,
        )
        return programs.run(["manage.py", *arguments], env)

    made = manage("makemigrations", "app")
    assert made.code == 0, made.err
    yield manage
    program.check_log(log.read_text(), 4)


@pytest.mark.watchdog(120)
@pytest.mark.parametrize("method", ["fork", "spawn"])  # Django knows no other
def test_parallel_tests(project, tmp_path, method):
    outcome = project("test", "--parallel", "2", method=method)
    assert outcome.code == 0, outcome.err
    assert "Ran 18 tests" in outcome.err and "\nOK" in outcome.err
    where = [line.split("|") for line in (tmp_path / "where").read_text().splitlines()]
    assert len(where) == 6 and {name for name, *_ in where} == {"fastmp"}
    # Each test ran in a worker, on that worker's copy of the database.
    kind = {"fork": "ForkPoolWorker", "spawn": "SpawnPoolWorker"}[method]
    assert {process.partition("-")[0] for *_, process in where} == {kind}
    databases = {database for _, database, _ in where}
    assert len(databases) == len({process for *_, process in where})


@pytest.mark.watchdog(120)
def test_a_failure_comes_back_with_its_traceback(project, tmp_path):
    tests = tmp_path / "app" / "tests.py"
    tests.write_text(tests.read_text() + FAILING)
    outcome = project("test", "--parallel", "2")
    assert outcome.code == 1
    assert "FAILED (failures=1)" in outcome.err and "!= 77" in outcome.err, outcome.err
