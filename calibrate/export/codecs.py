"""Which venues there are, by the name that their file gives: each with its parameter set."""

from calibrate.export.aave import Reserve, Spoke
from calibrate.export.binance import BracketTable
from calibrate.export.bybit import RiskLimits
from calibrate.export.compound import CollateralAsset
from calibrate.export.curve import Controller
from calibrate.export.derive import PerpRequirements
from calibrate.export.dydx import LiquidityTier
from calibrate.export.euler import VaultCollateral
from calibrate.export.gmx import MarketFactors
from calibrate.export.hyperliquid import MarginTable
from calibrate.export.liquity import Branch
from calibrate.export.maker import CollateralType
from calibrate.export.morpho import Market
from calibrate.export.native import Native
from calibrate.export.okx import PositionTiers
from calibrate.export.synthetix import PerpsMarket
from calibrate.export.velocity import PerpMarket

CODECS: dict[str, type[Native]] = {
    "aave-v3": Reserve,
    "aave-v4": Spoke,
    "binance": BracketTable,
    "bybit": RiskLimits,
    "compound-v3": CollateralAsset,
    "crvusd": Controller,
    "derive": PerpRequirements,
    "dydx-v4": LiquidityTier,
    "euler-v2": VaultCollateral,
    "gmx-v2": MarketFactors,
    "hyperliquid": MarginTable,
    "liquity-v2": Branch,
    "maker": CollateralType,
    "morpho-blue": Market,
    "okx": PositionTiers,
    "synthetix-v3": PerpsMarket,
    "velocity": PerpMarket,
}
