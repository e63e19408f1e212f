"""Which venues there are, by the name that their file gives: each with its parameter set."""

from calibrate.export.aave import Reserve, Spoke
from calibrate.export.binance import BracketTable
from calibrate.export.compound import CollateralAsset
from calibrate.export.dydx import LiquidityTier
from calibrate.export.euler import VaultCollateral
from calibrate.export.gmx import MarketFactors
from calibrate.export.hyperliquid import MarginTable
from calibrate.export.maker import CollateralType
from calibrate.export.morpho import Market
from calibrate.export.native import Native
from calibrate.export.velocity import PerpMarket

CODECS: dict[str, type[Native]] = {
    "aave-v3": Reserve,
    "aave-v4": Spoke,
    "binance": BracketTable,
    "compound-v3": CollateralAsset,
    "dydx-v4": LiquidityTier,
    "euler-v2": VaultCollateral,
    "gmx-v2": MarketFactors,
    "hyperliquid": MarginTable,
    "maker": CollateralType,
    "morpho-blue": Market,
    "velocity": PerpMarket,
}
