"""Mutation testing: change the code one line at a time, and see whether tests fail.

    python -m tests.support.mutants < mutants.json

Heavy modules are imported once; each mutant is then tested in a forked process, which
compiles the mutated module from changed source. Nothing is written to disk. Tests are
called without pytest, which would take longer to start than to run them, so they may have
parameters, but no fixtures.
"""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import inspect
import itertools
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

import aiohttp  # noqa: F401 - slow to import, so imported before forking
import hypothesis.stateful
from _pytest import outcomes
from _pytest.mark.structures import ParameterSet

from qos_async.testing import virtual

__all__ = ["KILLED", "SURVIVED", "mutated"]

SURVIVED, KILLED = 0, 1

_TIMEOUT = 60


def _is_test(name: str) -> bool:
    return name.startswith("test_")


def mutated(source: str, old: str, new: str) -> str:
    """Return the source with the only occurrence of ``old`` replaced.

    Raises:
        LookupError: If there is not exactly one.
    """
    if (found := source.count(old)) != 1:
        raise LookupError(f"{found} occurrences of {old!r}: there must be exactly one")
    return source.replace(old, new)


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, old: str, new: str) -> None:
        super().__init__(name, path)
        self._change = old, new

    def get_code(self, fullname: str) -> CodeType:
        source = mutated(self.get_data(self.path).decode(), *self._change)
        return compile(source, self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, module: str, old: str, new: str) -> None:
        self._module, self._change = module, (old, new)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname != self._module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Loader(fullname, spec.origin, *self._change)
        return spec


def _calls(test: Any) -> Iterator[Callable[[], Any]]:
    """Yield a test's calls, one for each set of its parameters."""
    sets: list[list[dict[str, Any]]] = []
    for mark in getattr(test, "pytestmark", []):
        if mark.name == "parametrize":
            names = mark.args[0]
            names = names.split(",") if isinstance(names, str) else names
            rows = [
                row.values if isinstance(row, ParameterSet) else row
                for row in mark.args[1]
            ]
            rows = rows if len(names) > 1 else [(row,) for row in rows]
            sets.append([dict(zip(names, row, strict=True)) for row in rows])
    for chosen in itertools.product(*sets):
        call = functools.partial(
            test, **{k: v for one in chosen for k, v in one.items()}
        )
        if inspect.iscoroutinefunction(test):
            call = functools.partial(virtual.run, call)
        yield call


def _run_tests(tests: list[str]) -> int:
    for name in tests:
        path, _, only = name.partition("::")
        module = importlib.import_module(path)
        for test in [only] if only else filter(_is_test, vars(module)):
            for call in _calls(getattr(module, test)):
                try:
                    call()
                except (Exception, outcomes.Failed) as exc:  # noqa: BLE001
                    sys.stderr.write(f"{path}::{test}: {exc!r}\n")
                    return KILLED
    return SURVIVED


def _fork(mutant: dict[str, Any]) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    # A mutant that never ends counts as killed.
    signal.signal(signal.SIGALRM, lambda *_: os._exit(KILLED))
    signal.alarm(_TIMEOUT)
    code = -1
    try:
        if mutant["module"]:
            assert mutant["module"] not in sys.modules, "too late to change it"
            sys.meta_path.insert(
                0, _Finder(*(mutant[it] for it in ("module", "old", "new")))
            )
            importlib.import_module(mutant["module"])
        code = _run_tests(mutant["tests"])
    except BaseException:  # noqa: BLE001 - the child must not return into the parent's code
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Read mutants from stdin, and write the result of each to stdout."""
    hypothesis.settings.register_profile(
        "once",
        database=None,
        deadline=None,  # A busy machine must not fail a test.
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        derandomize=True,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    hypothesis.settings.load_profile("once")
    json.dump([_fork(mutant) for mutant in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main()
