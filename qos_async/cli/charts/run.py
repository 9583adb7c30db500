"""``qos chart``: fetch, draw, and tell where to."""

from __future__ import annotations

import importlib.util
import shutil
import sys

from qos_async import Adjustment, Kline
from qos_async.cli import exits
from qos_async.cli.charts.words import Picture
from qos_async.cli.client import open_client, run_async
from qos_async.cli.commands.chart import Arguments
from qos_async.cli.files import OutputError, check_place, whole_file
from qos_async.cli.settings import SettingsError, server_label

__all__ = ["run_chart"]

_IN_A_FILE = 120
_PACKAGES = {
    ".html": ("plotly", "HTML charts need plotly", "plot"),
    ".png": ("matplotlib", "PNG charts need matplotlib", "plot"),
    "": ("rich", "charts in the terminal need rich", "cli"),
}


def run_chart(arguments: Arguments) -> int:
    """Fetch the klines, draw them, and give the exit code."""
    output = arguments.output
    try:
        _check_package(output.suffix if output else "")
        if output:
            check_place(output, force=True)
        return _chart(arguments, server_label(arguments))
    except SettingsError as error:
        return _tell(str(error), exits.USAGE)
    except (ModuleNotFoundError, OutputError) as error:
        return _tell(str(error), exits.FAILED)


def _chart(arguments: Arguments, source: str) -> int:
    klines: list[Kline] = []

    async def fetch() -> None:
        async with open_client(arguments) as client:
            found = await client.fetch_klines(
                arguments.symbol,
                interval=arguments.interval,
                count=_count(arguments),
                adjust=Adjustment.FORWARD if arguments.adjust else Adjustment.NONE,
            )
        klines.extend(found.get(arguments.symbol, ()))

    code = run_async(fetch)
    if code:
        return code
    if not klines:
        return _tell(
            f"the server has no {arguments.interval.short} bars of {arguments.symbol}: "
            "is it spelt as qos products lists it?",
            exits.FAILED,
        )
    _draw(Picture(klines, source), arguments)
    return exits.OK


def _count(arguments: Arguments) -> int:
    if arguments.count is not None:
        return arguments.count
    if arguments.output is not None:
        return _IN_A_FILE
    from qos_async.cli.charts.terminal import bars_that_fit

    return bars_that_fit(shutil.get_terminal_size().columns)


def _draw(picture: Picture, arguments: Arguments) -> None:
    output = arguments.output
    if output is None:
        from qos_async.cli.charts.terminal import print_chart

        try:
            print_chart(picture)
        except UnicodeEncodeError as error:
            raise OutputError(
                f"the encoding of this output, {error.encoding}, has no blocks to draw "
                "with: set PYTHONUTF8=1, or draw into a file with -o chart.png"
            ) from None
        return
    with whole_file(output) as file:
        if output.suffix == ".html":
            from qos_async.cli.charts import html

            text = html.page(picture, theme=arguments.theme, cdn=arguments.cdn)
            file.write(text.encode())
        else:
            from qos_async.cli.charts import png

            png.draw(picture, file, theme=arguments.theme)
    print(f"{output}: {picture.title}, {picture.span}", file=sys.stderr)


def _check_package(suffix: str) -> None:
    """Fail before anything is asked.

    Raises:
        ModuleNotFoundError: The sentence says what to install.
    """
    package, need, extra = _PACKAGES[suffix]
    try:
        found = importlib.util.find_spec(package)
    except ValueError:  # As import does where a module was set to None.
        found = None
    if found is None:
        raise ModuleNotFoundError(
            f"{need}, which is not installed: pip install 'qos-async[{extra}]'",
            name=package,
        )


def _tell(sentence: str, code: int) -> int:
    print(f"qos: {sentence}", file=sys.stderr)
    return code
