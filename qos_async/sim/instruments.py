"""Instruments of the simulated market: the document's rows, and some plausible ones.

The rows of ``instrument-info`` and the first prices come from the recorded examples.
No row of FX, IX or CM has been published; theirs are modelled on the others.
"""

from __future__ import annotations

import hashlib

from msgspec import UNSET, Struct, UnsetType

from qos_async.symbols import market_of

__all__ = ["INSTRUMENTS", "SimulatedInstrument", "make_instrument"]

_LEVELS = {"US": 1, "SH": 5, "SZ": 5, "HK": 10, "CF": 20}
_LOTS_OF_100 = ("SH", "SZ")


class Increment(Struct, frozen=True):
    """The increment of a price or size: ``step`` / 10**``places``.

    ``padded`` keeps trailing zeros, as crypto rows do; stocks drop them.
    """

    places: int
    step: int = 1
    padded: bool = False

    def format(self, units: int) -> str:
        """Return ``units`` increments as the wire's decimal text, exactly."""
        if not self.places:
            return str(units * self.step)
        digits = str(units * self.step).rjust(self.places + 1, "0")
        text = f"{digits[: -self.places]}.{digits[-self.places :]}"
        return text if self.padded else text.rstrip("0").rstrip(".")


class InstrumentInfo(Struct, frozen=True, omit_defaults=True):
    """The row of ``instrument-info`` (section 4.2.3); CF has only ``e`` and ``tc``."""

    e: str
    tc: str
    nc: str | UnsetType = UNSET
    ne: str | UnsetType = UNSET
    ls: int | UnsetType = UNSET
    ts: int | UnsetType = UNSET
    os: int | UnsetType = UNSET
    ep: str | UnsetType = UNSET
    na: str | UnsetType = UNSET
    dy: str | UnsetType = UNSET


class SimulatedInstrument(Struct, frozen=True):
    """One traded instrument, and the parameters of its trades.

    Attributes:
        symbol: Canonical.
        info: Its row of ``instrument-info``.
        price: The first price, in price increments.
        price_increment: The tick size.
        size_increment: One share, a lot of 100 or a fraction of a coin, by market.
        rate: Trades in a market second, on average.
        size: The mean size of a trade, in size increments.
        volatility: Relative price change in a minute.
    """

    symbol: str
    info: InstrumentInfo
    price: int
    price_increment: Increment
    size_increment: Increment
    rate: float = 1.5
    size: float = 40.0
    volatility: float = 0.0005

    @property
    def market(self) -> str:
        """The part of the symbol before its colon."""
        return market_of(self.symbol)

    @property
    def levels(self) -> int:
        """The number of levels on each side of the order book (recorded)."""
        return _LEVELS.get(self.market, 1)

    def turnover(self, price: int, size: int) -> int:
        """Return price times size, in the unit that ``turnover_text`` expects."""
        lot = 100 if self.market in _LOTS_OF_100 else 1
        return price * self.price_increment.step * size * self.size_increment.step * lot

    def turnover_text(self, turnover: int) -> str:
        """Return a turnover as the wire has it: a float64 with many digits."""
        money = float(turnover) / 10 ** (
            self.price_increment.places + self.size_increment.places
        )
        if self.market == "CF":
            return f"{money:.2f}"
        return f"{money:.10f}".rstrip("0").rstrip(".")


_CENTS = Increment(2)
_WHOLE = Increment(0)
_COINS = Increment(3, padded=True)
_PERPETUAL = InstrumentInfo("Crypto Perpetual Contract", "USDT")


def _stock(
    symbol: str,
    price: int,
    about: InstrumentInfo,
    prices: Increment = _CENTS,
    size: float = 40.0,
) -> SimulatedInstrument:
    sizes = Increment(0, 100) if market_of(symbol) == "HK" else _WHOLE
    return SimulatedInstrument(symbol, about, price, prices, sizes, size=size)


def _coin(symbol: str, price: int, step: int, size: float) -> SimulatedInstrument:
    prices = Increment(2, step, padded=True)
    return SimulatedInstrument(symbol, _PERPETUAL, price, prices, _COINS, 3.0, size)


def _other(
    symbol: str, name: str, price: int, places: int, tc: str
) -> SimulatedInstrument:
    where = {"FX": "Forex", "IX": "Index", "CM": "Commodity"}[market_of(symbol)]
    about = InstrumentInfo(where, tc, name, symbol.partition(":")[2])
    return SimulatedInstrument(
        symbol, about, price, Increment(places), _WHOLE, 1.0, 5.0, volatility=0.0002
    )


# fmt: off
_ROWS = (
    _stock("US:AAPL", 21110, InstrumentInfo("NASD", "USD", "苹果", "Apple Inc.", 1, 15022073000, 14998202926, "6.2398844687", "4.4439938483", "1")),
    _stock("US:TSLA", 24610, InstrumentInfo("NASD", "USD", "特斯拉", "Tesla, Inc.", 1, 3216517037, 2799672511, "2.2166834243", "22.6683083476", "0")),
    _stock("US:NVDA", 12167, InstrumentInfo("NASD", "USD", "英伟达", "NVIDIA Corporation", 1, 24400000000, 23433600000, "2.94", "3.25", "0.034")),
    _stock("HK:700", 1043, InstrumentInfo("SEHK", "HKD", "腾讯控股", "TENCENT", 100, 9178822571, 9178822571, "13.8513523179", "110.2507143217", "3.4891482482"), Increment(1, 5), 20.0),
    _stock("HK:9988", 1358, InstrumentInfo("SEHK", "HKD", "阿里巴巴-W", "BABA-W", 100, 19008233516, 19008233516, "4.6275184269", "56.8746237928", "1.649298669"), Increment(1), 20.0),
    _stock("HK:1810", 1056, InstrumentInfo("SEHK", "HKD", "小米集团-W", "XIAOMI-W", 200, 25116156018, 25116156018, "0.9429", "7.5211", "0"), Increment(2, 5), 20.0),
    _stock("SH:600519", 162801, InstrumentInfo("SSE", "CNY", "贵州茅台", "Moutai", 100, 1256197800, 1256197800, "59.49", "189.2293196185", "54.758"), size=5.0),
    _stock("SH:600518", 218, InstrumentInfo("SSE", "CNY", "康美药业", "KMYY", 100, 13863866690, 13612928105, "0.01", "0.5079295503", "0"), size=400.0),
    _stock("SH:688981", 9481, InstrumentInfo("SSE", "CNY", "中芯国际", "SMIC", 100, 7981135214, 1988359129, "0.7849289306", "18.1090038102", "0")),
    _stock("SZ:000001", 1197, InstrumentInfo("SZSE", "CNY", "平安银行", "PAB", 100, 19405918198, 19405762053, "2.247036", "21.6699357232", "0.965"), size=200.0),
    _stock("SZ:002594", 37594, InstrumentInfo("SZSE", "CNY", "比亚迪", "BYD", 100, 3039065855, 1811265855, "10.32", "51.1546641032", "2.9654648599"), size=10.0),
    _coin("CF:BTCUSDT", 833261, 10, 60.0),
    _coin("CF:ETHUSDT", 189824, 1, 900.0),
    _other("FX:EURUSD", "欧元美元", 108820, 5, "USD"),
    _other("FX:USDJPY", "美元日元", 148640, 3, "JPY"),
    _other("IX:HSI", "恒生指数", 2395998, 2, "HKD"),
    _other("CM:XAUUSD", "黄金", 298460, 2, "USD"),
    _other("CM:XBRUSD", "布伦特原油", 7058, 2, "USD"),
    _other("CM:XTIUSD", "美国原油", 6718, 2, "USD"),
    _other("CM:XNGUSD", "天然气", 4104, 3, "USD"),
)
# fmt: on
INSTRUMENTS = {instrument.symbol: instrument for instrument in _ROWS}


def make_instrument(symbol: str) -> SimulatedInstrument:
    """Return an instrument for an unlisted symbol, always the same for the same symbol."""
    digest = hashlib.blake2b(symbol.encode(), digest_size=8).digest()
    price = 500 + int.from_bytes(digest, "big") % 50_000
    if market_of(symbol) == "CF":
        return SimulatedInstrument(
            symbol, _PERPETUAL, price, Increment(2, padded=True), _COINS, 3.0
        )
    name = symbol.partition(":")[2]
    return _stock(symbol, price, InstrumentInfo("SIM", "USD", name, name, 1))
